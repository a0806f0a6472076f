"""Proof that a wrong derivative cannot pass: plant one fault at a time, run the tests, and see whether one fails.

``python -m tests.mutation`` from a checkout, or ``python tests/mutation/run.py``: both plant into whatever
`tinygrad_rnn` the interpreter has installed. `run` hands mutants to workers (processes, so that one that hangs or
crashes costs nothing else), `worker` plants them inside one long pytest session, `rules` and `sweep` say what is
planted, and `equivalent.toml` lists what no test can notice, with the reason.
"""

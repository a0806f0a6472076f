"""What the tests of the package notice: faults are planted one at a time, and each must make a test fail.

``python -m tests.mutation`` from a checkout; it plants into whatever `tinygrad_rnn` the interpreter has installed, in a
copy. `operators` says what can be wrong in a text, and `source` finds it; `rules` what in a derivative, `sweep` what in
whole phrases; `rooms` which of these are drawn and what is asked of each folder; `probes` and `seen` which tests are
shown a mutant; `worker` tries it in a forked process, where `devices` stands guard; `run` hands out the work and
`report` says what came of it. `equivalent.toml` lists what no test can notice, with the reason; `table.md` holds the
last figures. It needs a system that forks.
"""

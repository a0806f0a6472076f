"""Three LSTMs that differ in their gate biases alone, and a simple RNN: whose gradient arrives from 100 steps back?"""

import numpy as np

import tinygrad_rnn as tg
from tinygrad_rnn.diagnose import compare

inputs = np.random.default_rng(0).standard_normal(
    (100, 8, 8)
)  # 100 steps, 8 sequences, 8 values a step
networks = {
    "simple RNN": tg.RNNCell(8, 32, rng=0),
    "LSTM, forget bias 0": tg.LSTMCell(8, 32, forget_bias=0.0, rng=0),
    "LSTM, forget bias 1": tg.LSTMCell(8, 32, forget_bias=1.0, rng=0),
    "LSTM, chrono": tg.LSTMCell(8, 32, init="chrono", t_max=100, rng=0),
}
compared = compare(networks, inputs)
print(compared)
for name, flow in compared.flows.items():
    verdict = flow.verdict
    print(f"\n{name}: {verdict.word}, {verdict.reason}")
    print(f"  within two decades up to lag {verdict.healthy_up_to}")
    print(f"  cause: {verdict.cause or 'nothing to explain'}")
    for trial in verdict.trials[:2]:
        print(f"  {trial}")
compared.save("why_it_does_not_learn.png")

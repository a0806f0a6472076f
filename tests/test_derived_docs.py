"""The page on derived BPTT shows the source that is derived now, and the textbook that it promises.

After a change that is meant, ``SHOW_SOURCE=1 pytest tests/test_derived_docs.py`` writes the page anew.
"""

import os
import re
from pathlib import Path

import numpy as np
import pytest
from pages import FENCE

import tinygrad_rnn as tg

PAGE = Path(__file__).resolve().parent.parent / "docs" / "derived.md"


def with_sources(text):
    """The page with each block that shows a source replaced by the source of the program derived just before it."""
    namespace = {}

    def shown(found):
        code = found["code"]
        if found["language"] != "python":
            return found[0]
        if "def bptt(" in code or code.strip() == "SOURCE":
            return found[0].replace(code.rstrip("\n"), namespace["program"].source.rstrip("\n"))
        exec(code, namespace)
        return found[0]

    return FENCE.sub(shown, text)


@pytest.mark.golden
def test_page_shows_the_source_that_is_derived():
    text = PAGE.read_text(encoding="utf-8")
    new = with_sources(text)
    if os.environ.get("SHOW_SOURCE"):
        PAGE.write_text(new, encoding="utf-8", newline="\n")
    assert new == PAGE.read_text(encoding="utf-8")
    assert len(re.findall("def bptt", new)) == 3


def loop_lines(source):
    """The lines of the program that are not bookkeeping: no allocation, heading, or dict of results."""
    body = source.partition("T = len(x)\n")[2].partition("gradients = {")[0]
    return [line for line in body.splitlines() if line.strip() and not line.strip().startswith("#")]


def test_plain_source_is_the_textbook():
    cell = tg.RNNCell(3, 4, rng=0)
    plain = ("dead_code", "share", "only_last", "tiles")
    example, v = (np.ones((5, 2, 3)), cell.initial_state(2)), np.arange(8.0).reshape(2, 4)
    source = tg.derive_bptt(cell, lambda outputs: tg.sum(outputs[-1] * v), example, plain).source
    code = [line.split("  #")[0].strip() for line in loop_lines(source)]
    assert len(code) <= 19
    for line in (
        "z = x[t] @ weight_ih_T + h[t] @ weight_hh_T + bias",
        "h[t + 1] = np.tanh(z)",
        "dz = dh * (1 - h[t + 1] ** 2)",
        "d_weight_ih += dz.T @ x[t]",
        "d_weight_hh += dz.T @ h[t]",
        "dh = dz @ weight_hh",
    ):
        assert line in code, source


def test_best_lstm_calls_one_tanh_for_all_gates_and_copies_nothing():
    cell = tg.LSTMCell(3, 4, rng=0)
    example = np.ones((5, 2, 3)), cell.initial_state(2)
    source = tg.derive_bptt(cell, lambda outputs: tg.sum(outputs[-1]), example).source
    loops = source.split("for t in ")[1:]
    forward, backward = (re.split(r"\n    (?=\S)|\n\n", loop)[0] for loop in loops)
    assert forward.count("np.tanh(") == 2 and forward.count("np.dot(") == 1
    assert backward.count("np.dot(") == 1 and backward.count("\n") <= 9
    for words in ("concatenate", "scatter", "zeros", "np.empty"):
        assert words not in forward + backward
    for name in ("dz_i[t]", "dz_f[t]", "dz_g[t]", "dz_o[t]", "dc", "dh"):
        assert f"out={name})" in backward or f"{name} += " in backward


def test_gates_with_weights_of_their_own_become_one_product():
    """The LSTM of many tutorials: [h, x] joined, one weight and one bias for every gate."""
    cell = Tutorial(3, 4)
    example = np.ones((5, 2, 3)), cell.initial_state(2)
    source = tg.derive_bptt(cell, lambda outputs: tg.sum(outputs[-1]), example).source
    for loop in source.split("for t in ")[1:]:
        assert re.split(r"\n    (?=\S)|\n\n", loop)[0].count("np.dot(") == 1


class Tutorial:
    def __init__(self, inputs, hidden):
        rng = np.random.default_rng(0)
        for gate in "fico":
            setattr(self, f"W{gate}", tg.Tensor(rng.normal(size=(hidden, hidden + inputs)) / 2, requires_grad=True))
            setattr(self, f"b{gate}", tg.Tensor(rng.normal(size=hidden), requires_grad=True))

    def parameters(self):
        return {name: value for name, value in vars(self).items() if isinstance(value, tg.Tensor)}

    def initial_state(self, batch):
        return tuple(tg.Tensor(np.zeros((batch, len(self.bf.data)))) for _ in "hc")

    def __call__(self, x, state):
        h, c = state
        hx = tg.concatenate([h, x], axis=1)
        f = tg.sigmoid(hx @ self.Wf.T + self.bf)
        i = tg.sigmoid(hx @ self.Wi.T + self.bi)
        c = f * c + i * tg.tanh(hx @ self.Wc.T + self.bc)
        return tg.sigmoid(hx @ self.Wo.T + self.bo) * tg.tanh(c), c

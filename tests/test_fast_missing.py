"""Without numba `compiled=True` says what to install, and nothing else changes."""

import sys

import numpy as np
import pytest

import tinygrad_rnn as tg


def test_missing_numba_names_the_extra(monkeypatch):
    for name in [n for n in sys.modules if n.startswith("tinygrad_rnn.fast")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "numba", None)
    cell = tg.RNNCell(1, 2, rng=0)
    example = np.ones((3, 1)), cell.initial_state()
    with pytest.raises(ImportError, match=r"compiled=True needs numba: pip install .*\[fast\]"):
        tg.derive_bptt(cell, lambda state: tg.sum(state), example, compiled=True)
    assert tg.derive_bptt(cell, lambda state: tg.sum(state), example).source.startswith("import numpy")

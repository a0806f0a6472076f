"""``tinygrad-rnn demo``: the picture at the head of README, drawn here; `examples/rnn_beside_lstm.py` explains it."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from .draw import left_of
from .options import Command
from .outputs import claim


def run(arguments: argparse.Namespace) -> None:
    """Draw README's picture, of three cells, as demo.svg.

    Unroll three cells over the same fifty steps, and draw what is left of the gradient at each.
    """
    import numpy as np

    from .. import draw, gradient_graph, gradient_through_time, nn, unroll
    from ..data import load

    picture = Path("demo.svg")
    claim(arguments, {"the picture": picture})
    series, _ = load(steps=50)
    direction = np.random.default_rng(0).normal(size=16)
    cells: dict[str, Any] = {
        "tanh RNN": nn.RNNCell(1, 16, rng=0),
        "LSTM": nn.LSTMCell(1, 16, rng=0),
        "LSTM, gates opened": nn.LSTMCell(1, 16, forget_bias=5.0, input_bias=-3.0, rng=0),
    }
    graphs = {}
    for name, cell in cells.items():
        _, last = unroll(cell, series[:, None, :])
        h = last[0] if name.startswith("LSTM") else last
        graphs[name] = gradient_graph((h * (direction / np.linalg.norm(direction))).sum())
        print(f"{name:20}{left_of(gradient_through_time(graphs[name]).decays)}")
    about = "flow of the Nile, H = 16, seed 0, weights U(−1/√H, 1/√H); opened: forget bias 5, input −3"
    title = "How much gradient arrives at an earlier step?"
    draw(graphs, picture, page="slide", title=title, subtitle=about)
    print(f"wrote               {picture}\nnext                tinygrad-rnn draw lstm")


COMMAND = Command("demo", run)

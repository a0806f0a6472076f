"""Ends of a network made by hand: the curves that a verdict is read off."""

import numpy as np

from tinygrad_rnn.diagnose.ends import End

LITTLE = 1e-6
INF = np.inf


def end(*columns, states=None, **options):
    """An end whose inputs' curves are these, one a sequence; NaN where a sequence has not begun."""
    x = np.array(columns, float).T
    states = {("", "h"): np.zeros_like(x)} if states is None else states
    given = {"peak": x, "size": np.zeros(x.shape[1]), **options}
    return End("", len(x), given.pop("x", x), states, **given)


def straight(lost, steps=40):
    """From 0 down by so many decades; flat at both ends, over which the newest and the oldest inputs are taken."""
    return np.r_[0.0, np.linspace(0, -lost, steps - 9), np.full(8, -lost)]

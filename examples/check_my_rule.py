"""A derivative rule of one's own, first wrong and then right: what the checker says, and the picture of both.

Writes check_my_rule.svg: y = mish(x)² twice, where only the right rule sends the right gradient back.
"""

import numpy as np

import tinygrad_rnn as tg
from tinygrad_rnn.testing import CheckError, check_primitive


def softplus(x):
    return np.log1p(np.exp(x))


def mish(x):
    return x * np.tanh(softplus(x))


def product_rule_forgotten(g, y, x):
    """d(x t) is not x dt: the summand t = y / x is missing."""
    t = np.tanh(tg.softplus(x))
    return g * x * (1 - t * t) * tg.sigmoid(x)


def right(g, y, x):
    """d(x t) = t dx + x dt, t = tanh(softplus(x)), dt = (1 - t²) σ(x) dx."""
    t = np.tanh(tg.softplus(x))
    return g * (t + x * (1 - t * t) * tg.sigmoid(x))


losses = {}
rules = {"mish, product rule forgotten": product_rule_forgotten, "mish": right}
for name, rule in rules.items():
    op = tg.primitive(name, mish, rule)
    try:
        print(check_primitive(op))
    except CheckError as error:
        print(error)
    x = tg.Tensor([-1.0, 0.5, 2.0], requires_grad=True, name="x")
    losses[name] = tg.sum(tg.square(op(x)))
    gradient = tg.grad(losses[name], x).numpy()
    print(f"gradient at x = [-1, 0.5, 2]: {gradient.round(4)}\n")

title = "The same function with two rules"
tg.draw(losses, "check_my_rule.svg", level="op", title=title)
print("wrote check_my_rule.svg")

"""The reference: a function of the engine with the shapes of a call and the formula that is read off its rule.

After this file the reader knows why shapes and formulas on the site cannot be wrong on their own: they are not written
there.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

import tinygrad_rnn as tg
from tinygrad_rnn.tensor import OPS

CALLS = """
    affine(X[2, 3], X[4, 3], X[4], X[2, 5], X[4, 5], X[4]); broadcast_to(X[3], (2, 3)); clip(X[2, 3], 0.0, 1.0)
    concatenate([X[2, 3], X[4, 3]]); cross_entropy(X[2, 3], I[2]); cumsum(X[2, 3], axis=1)
    dot(X[2, 3], X[3, 4]); norm(X[2, 3], axis=1); outer(X[2], X[3]); std(X[2, 3], axis=1)
    einsum('ij,jk->ik', X[2, 3], X[3, 4]); expand_dims(X[2, 3], 1); getitem(X[2, 3], (0, slice(1, None)))
    linear(X[2, 3], X[4, 3], X[4]); log_softmax(X[2, 3]); logsumexp(X[2, 3], axis=1); matmul(X[2, 3], X[3, 4])
    max(X[2, 3], axis=1); mean(X[2, 3], axis=1); min(X[2, 3], axis=1, keepdims=True); mse_loss(X[2, 3], X[2, 3])
    prod(X[2, 3], axis=1); reshape(X[2, 3], (3, 2)); softmax(X[2, 3]); split(X[2, 3], 3, axis=1); squeeze(X[2, 1, 3])
    stack([X[2, 3], X[2, 3]]); sum(X[2, 3], axis=1); transpose(X[2, 3]); var(X[2, 3], axis=1); where(I[3], X[2, 3], 0.0)
"""
"""Calls that are made to see what shape comes out; X[2, 3] stands for an array of that shape, I[2] for integers."""


class Of:
    """Arrays by their shape."""

    def __init__(self, dtype: type) -> None:
        self.dtype = dtype

    def __getitem__(self, shape: Any) -> Any:
        return np.ones(shape, self.dtype)


def call(name: str) -> tuple[str, str]:
    """A call of a function, as text, and the shape of what it returned."""
    calls = {
        text.partition("(")[0].strip(): text.strip() for text in CALLS.replace("\n", ";").split(";") if text.strip()
    }
    text = calls.get(name) or f"{name}(X[2, 3]{', X[3]' if len(OPS[name].rules) == 2 else ''})"
    result = eval(f"tg.{text}", {"tg": tg, "X": Of(float), "I": Of(int)})
    return text, ", ".join(str(np.shape(part)) for part in (result if isinstance(result, list) else [result]))


def formulas(name: str) -> list[str]:
    """What the rules of a primitive compute, one for each operand; empty for what is composed of others."""
    if name not in OPS:
        return []
    op = OPS[name]
    if op.phrase:
        return [op.phrase.replace("{axis}", "the axis").replace("{subscripts}", "the subscripts")]
    lines = (op.__doc__ or "").splitlines()
    return [line.partition(" = ")[2].partition(", Σ over")[0] for line in lines if line.startswith("    dL/d")]


class Differentiable(SphinxDirective):
    """A function of the engine: its signature, its text, and the formula of each operand's derivative."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """The entry."""
        name = self.arguments[0]
        shown = self.parse_text_to_nodes(f"```{{eval-rst}}\n.. autofunction:: tinygrad_rnn.{name}\n```\n")
        found = [f"`{text}`" for text in formulas(name)]
        text = ", ".join(found) if found else "that of the functions it is composed of"
        made, shape = call(name)
        return shown + self.parse_text_to_nodes(f"Shape: `{made}` gives {shape}. Derivative: {text}.\n")


def without_back_links(app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: Any) -> None:
    """Sources do not link back: a name that is a module and a function at once, `draw`, would lead nowhere."""
    if page.startswith("_modules/") and "body" in context:
        context["body"] = re.sub(r'<a class="viewcode-back"[^>]*>.*?</a>', "", context["body"])


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directive."""
    app.add_directive("differentiable", Differentiable)  # not "function": Sphinx has one, which would win
    app.connect("html-page-context", without_back_links)
    return {"parallel_read_safe": True, "parallel_write_safe": True}

"""Formulas: which one a rule has, and which one it should have, found among products of two of the usual factors.

After this file the reader knows how a report can say "a factor (1 - y²) is missing", or "it is g × (1 - x²); the
derivative is g × (1 - y²)": logarithms turn products into sums, and a sum of two is soon found among many.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np

from .evidence import SAME, Evidence, same
from .oracles import Array

MOST = 8
"""At how many elements products are looked for; what is found must hold at all."""
SIMPLE = {1.0: "", 2.0: "2", 3.0: "3", 4.0: "4", 0.5: "1/2", 1 / 3: "1/3", 0.25: "1/4"}
POWERS = {1.0: "{}", -1.0: "1 / {}", 2.0: "{}²", -2.0: "1 / {}²", 0.5: "sqrt({})", -0.5: "1 / sqrt({})"}
FORMS: dict[str, Callable[[Array], Any]] = {
    "{}": lambda a: a, "(1 - {})": lambda a: 1 - a, "(1 + {})": lambda a: 1 + a,
    "(1 - {}²)": lambda a: 1 - a * a, "(1 + {}²)": lambda a: 1 + a * a,
    "exp({})": np.exp, "(1 + exp({}))": lambda a: 1 + np.exp(a), "(1 + exp(-{}))": lambda a: 1 + np.exp(-a),
    "log({})": np.log, "sin({})": np.sin, "cos({})": np.cos,
    "tanh({})": np.tanh, "(1 - tanh({})²)": lambda a: 1 - np.tanh(a) ** 2,
    "sigmoid'({})": lambda a: 1 / (np.exp(a / 2) + np.exp(-a / 2)) ** 2,
    "(1 - abs({}))": lambda a: 1 - np.abs(a), "(1 + abs({}))": lambda a: 1 + np.abs(a),
}  # fmt: skip


class Formulas:
    """The usual factors and their powers, as numbers at the elements looked at, those with short names first."""

    def __init__(self, e: Evidence) -> None:
        shape, several = e.inputs[e.which].shape, len(e.inputs) > 1
        named = [(f"x{e.subject.where[k]}" if several else "x", a) for k, a in enumerate(e.inputs)]
        rows = {"1": np.ones(len(e.elements))}
        for name, array in [*named, *[("y", y) for y in e.outputs[:1]]]:
            with suppress(ValueError):  # of another shape
                a = e.at(np.broadcast_to(array, shape))
                forms = {form.format(name): value(a) for form, value in FORMS.items()}
                rows |= {how.format(n): v**power for power, how in POWERS.items() for n, v in forms.items()}
                rows |= {f"y / {n}": rows["y"] / rows[n] for n, _ in named if name == "y" and n in rows}
        usable = [name for name, row in rows.items() if np.isfinite(row).all() and row.all()]
        long = {name: bool(re.search("[a-z]{3}", name)) for name in usable}
        self.names = sorted(usable, key=lambda name: (long[name], len(name)))
        self.plain = len(usable) - sum(long.values())
        self.rows = np.array([rows[name] for name in self.names])
        self.logs = np.log(np.abs(self.rows[:, :MOST]))
        self.few = [k for k, name in enumerate(self.names) if "sqrt" not in name]

    def found(self, wanted: Array, pairs: bool = False) -> str | None:
        """The simplest product of a simple number and one factor, or two, that is these numbers."""
        second = self.few if pairs else [0]
        off = np.log(np.abs(wanted))[:MOST] - self.logs[:, None] - self.logs[second]
        constants = np.array([*SIMPLE])
        near = np.abs(off.mean(-1)[..., None] - np.log(constants))
        fits = np.argwhere((np.ptp(off, axis=-1) <= SAME) & (near.min(-1) <= SAME))
        for i, j in sorted(fits, key=lambda fit: max(fit) >= self.plain):  # what needs no function's name first
            constant = float(constants[near[i, j].argmin()])
            row = constant * self.rows[i] * self.rows[second[j]]
            for sign, said in ((1, ""), (-1, "-")):
                if same(sign * row, wanted):
                    parts = [SIMPLE[constant], *(self.names[k] for k in (i, second[j]) if k)]
                    return said + (" × ".join(filter(None, parts)) or "1")
        return None


def factors_and_terms(e: Evidence) -> Any:
    """A product or a sum of which one part was forgotten, or is another."""
    if e.mixed or (len(e.numeric) < 2 and not e.fresh):
        return  # one number is a product of anything
    formulas, g = Formulas(e), e.seed
    for pairs in (False, True):
        rule, right = (
            formulas.found(v / g, True) if pairs and g is not None else None for v in (e.analytic, e.numeric)
        )
        if rule and right:
            one, other = (re.sub(r"(?<![a-z])(x\d*|y)(?![a-z])", "x", said) for said in (rule, right))
            only_signs = one.replace("-", "+").strip("+") == other.replace("-", "+").strip("+")
            cause = "swapped" if one == other else "sign" if only_signs else "unknown"
            yield cause, f"it is g × {rule}; the derivative is g × {right}".replace("× 1 / ", "/ "), None
            return
        ratios = {"missing": e.numeric / e.analytic, "too much": e.analytic / e.numeric}
        found = [(said, how) for how, v in ratios.items() if (said := formulas.found(v, pairs))]
        if found:
            said, how = min(found, key=lambda one: len(one[0]))
            yield "missing factor", f"a factor {said.replace(' × 1 /', ' /')} is {how}", None
            return
        if g is not None and not pairs and (said := formulas.found((e.numeric - e.analytic) / g)):
            plus, said = "-" if said[0] == "-" else "+", said.strip("-")
            twice = f", or g × {said[4:]} has the wrong sign" if said.startswith("2 × ") else ""
            yield "missing term", f"a summand {plus} g × {said} is missing{twice}", None
            return
    if g is not None and len(e.outputs) == 1 and e.outputs[0].shape == e.inputs[e.which].shape:
        said = "of the product rule for y = x · (y / x) only the summand g · y / x is there"
        yield "missing term", said, g * e.at(e.outputs[0]) / e.at(e.inputs[e.which])

"""What default networks do, what made this one worse, and which changes let it see further: each measured.

After this file the reader knows that nothing is looked up. A cause is what, put back alone, makes the network healthy.
A change is searched: its factor is scanned and then narrowed towards the healthy side, it is measured on all steps, and
it is refused where it overshoots, saturates or blows up.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..files import Brief
from ..nn.cells import GRUCell, LSTMCell, RNNCell
from ..nn.module import once
from ..tensor import GradientError, Tensor
from .chain import Array
from .changes import PARTS, SEED, Changes, changed, label_of, put_back
from .ends import End
from .experiment import Experiment, cells_of, is_ours
from .verdict import BLOCKED, HEALTHY, Judgement, power, verdict

SEEDS = 5
MOST_TRIALS = 400


@dataclass(frozen=True)
class Trial:
    """One or two changes, and what was measured with them, on all steps and sequences.

    Attributes
    ----------
    changes : dict
        As `what_if` takes them.
    before, after : Judgement
    refused : str
        What speaks against it, although it may see further.
    """

    changes: dict[str, Any]
    before: Judgement
    after: Judgement
    refused: str

    @property
    def label(self) -> str:
        """The changes in words."""
        return label_of(self.changes)

    @property
    def decades(self) -> float:
        """D with it."""
        return self.after.decades

    @property
    def heals(self) -> bool:
        """Whether the word is healthy with it, and nothing speaks against it."""
        return self.after.word == "healthy" and not self.refused

    @property
    def cost(self) -> tuple[float, float]:
        """What the search makes small: decades from healthy, then how much more than one is lost or gained."""
        return self.after.far + 10 * bool(self.refused), max(min(abs(self.after.decades), 1e3) - 1, 0.0)

    def __str__(self) -> str:
        said = "HEALTHY" if self.heals else f"refused, {self.refused}" if self.refused else f"still {self.after.word}"
        through = ""
        if self.before.level < BLOCKED:
            through = f"the most that gets through from {power(self.before.level)} to {power(self.after.level)}, "
        return f"{self.label}: {through}D from {self.before.decades:.1f} to {self.after.decades:.1f}, {said}"


def _spread(low: float, high: float, n: int) -> tuple[float, ...]:
    """Factors from 10^low to 10^high, the gentlest first."""
    return tuple(float(f"{10.0**v:.3g}") for v in sorted(np.linspace(low, high, n), key=abs) if abs(v) > 0.01)


def families(experiment: Experiment, steps: int) -> Iterator[tuple[str, str, tuple[Any, ...]]]:
    """(kind, change, values) that may apply; an LSTM's two gate biases first: the forget bias alone teaches little."""
    model = experiment.model
    if not is_ours(model):
        yield from ((name, f"scale {name}", _spread(-2, 1.5, 15)) for name in once(model.parameters().items()))
        return
    cells, lag = cells_of(model), max(experiment.lag or steps - 1, 2)
    kind = type(cells[0]) if len({type(cell) for cell in cells}) == 1 else None
    if all(isinstance(cell.bias_ih, Tensor) for cell in cells):
        yield from _bias_families(cells[0], kind, lag)
    yield "inputs", "standardise", (True,)
    yield "inputs", "input_scale", _spread(-5, 2, 15)
    yield "weights between layers", "layer_scale", _spread(-0.5, 1.25, 8)
    yield "recurrent weights", "weight_scale", _spread(-1.5, 1, 11)
    if kind is RNNCell:
        yield "recurrent weights", "orthogonal", (1.0, 0.95, 1.1, 1.4, 0.8)
        others = {"tanh": ("relu",), "relu": ("tanh",)}.get(cells[0].nonlinearity, ("tanh", "relu"))
        yield "activation", "nonlinearity", others
    yield from ((part, "redraw", (part,)) for part in PARTS)


def _bias_families(cell: Any, kind: type | None, lag: int) -> Iterator[tuple[str, str, tuple[Any, ...]]]:
    gates = (0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 7.0, -1.0)
    if kind is LSTMCell:
        if cell.forget_gate:
            yield "gate biases", "chrono", tuple(max(lag * k, 2) for k in (1, 2, 4))
            yield "gate biases", "gate_bias", gates[2:6]
            yield "gate biases", "forget_bias", gates
        yield "input bias", "input_bias", (0.0, -2.0, -4.0)
        yield "output bias", "output_bias", (0.0, 2.0)
    elif kind is GRUCell:
        yield "update bias", "update_bias", gates
    elif kind is RNNCell:
        yield "bias", "bias", (0.0, 0.5)


def objection(before: Judgement, was: list[End], after: Judgement, ends: list[End]) -> str:
    """What speaks against a change although |D| may have come down."""
    if before.decades * after.decades < 0 and 1 < abs(after.decades) < math.inf and abs(before.decades) > HEALTHY:
        return f"overshoots to D = {after.decades:+.1f}"
    largest, full = max(end.largest for end in ends), max(end.saturated for end in ends)
    if largest > 10 and largest / 3 > max(end.largest for end in was):
        return f"|h| grows to {largest:.3g}"
    return f"saturates {full:.0%} of h" if full > 0.5 and largest <= 1 else ""


class Search:
    """Trials of changes to one experiment.

    Parameters
    ----------
    experiment : Experiment
    before : Judgement
    was : list of End
        What was measured without any.
    """

    def __init__(self, experiment: Experiment, before: Judgement, was: list[End]) -> None:
        self.experiment, self.before, self.was, self.spent = experiment, before, was, 0
        self.families = list(families(experiment, max(len(end.curve) for end in was)))

    def trial(self, changes: Changes, few: bool = True) -> Trial | None:
        """One measurement; None if this network has nothing of the kind, or nothing can be measured with it."""
        self.spent += 1
        try:
            experiment = changed(self.experiment, changes)
            after, ends = verdict(experiment.few(2) if few else experiment)
        except (ValueError, TypeError, ArithmeticError, GradientError):
            return None
        return Trial(dict(changes), self.before, after, objection(self.before, self.was, after, ends))

    def scan(self, base: Changes, name: str, values: Iterable[Any]) -> Trial | None:
        """The best value of one change, on top of others: scanned, and narrowed if it is a factor."""
        own = name.removeprefix("scale ")

        def tried_with(value: Any, few: bool = True) -> Trial | None:
            changes = {"scale": {**base.get("scale", {}), own: value}} if own != name else {name: value}
            return self.trial({**base, **changes}, few)

        tried = {value: found for value in values if (found := tried_with(value)) is not None}
        narrow = (len(tried) > 5 and name.endswith("_scale")) or own != name
        for k in range(10 if narrow and tried else 0):
            best = min(tried, key=lambda v: tried[v].cost)
            order = sorted(tried)
            near = [v for v in order[max(order.index(best) - 1, 0) : order.index(best) + 2] if v != best]
            across = [v for v in near if tried[v].decades * tried[best].decades < 0]  # healthy lies between
            for other in () if tried[best].heals else across or near[: 2 * (k < 3)]:
                value = float(f"{math.sqrt(best * other):.3g}")  # as it will be printed
                if value not in tried and (found := tried_with(value)) is not None:
                    tried[value] = found
        gentle = [v for v, trial in tried.items() if trial.heals and abs(trial.decades) < HEALTHY - 0.5]
        best = min(tried, key=lambda v: tried[v].cost) if tried and not gentle else None
        return tried_with(gentle[0] if gentle else best, few=False) if tried else None

    def run(self) -> list[Trial]:
        """Each family's best until three heal; pairs, where none does; those that heal first, then the nearest."""
        found: list[Trial] = []
        for _, name, values in self.families:
            if sum(t.heals for t in found) < 3 and (best := self.scan({}, name, values)) is not None:
                found.append(best)
        kinds = {name.removeprefix("scale "): kind for kind, name, _ in self.families}
        for first in [] if any(t.heals for t in found) else sorted(found, key=lambda t: t.cost)[:4]:
            used = {kinds.get(name) for name in (*first.changes, *first.changes.get("scale", ()))}
            for kind, name, values in self.families:
                if kind not in used and self.spent < MOST_TRIALS:
                    found += filter(None, [self.scan(first.changes, name, values)])
            if any(t.heals for t in found):
                break
        return sorted(found, key=lambda t: (not t.heals, (0.0, 0.0) if t.heals else t.cost))


# --- causes ---


@dataclass(frozen=True, repr=False)
class Verdict(Brief):
    """What the report says about a network.

    Attributes
    ----------
    judgement : Judgement
    default : tuple of Judgement
        The same network with default weights, on the same data: 5 seeds.
    undone : dict of str to Judgement
        What made it so ("size of the inputs", "recurrent weights", "input weights", "biases"), and the word with that
        alone put back.
    trials : tuple of Trial
        The changes that were found, those that heal first.
    curves : tuple of array, shape (K,)
        What inputs move the output by in the default networks, by lag: the median over the sequences.
    worse : bool
        Whether it is further from healthy than default networks are on standardised data, by a quarter and 2 decades.
    trained : bool
    """

    judgement: Judgement
    default: tuple[Judgement, ...] = ()
    undone: Mapping[str, Judgement] = field(default_factory=dict)
    trials: tuple[Trial, ...] = ()
    curves: tuple[Array, ...] = ()
    worse: bool = False
    trained: bool = False

    @property
    def word(self) -> str:
        """One of `diagnose.verdict.WORDS`."""
        return self.judgement.word

    @property
    def decades(self) -> float:
        """D, lost between the newest input and the one at the lag asked for."""
        return self.judgement.decades

    @property
    def reason(self) -> str:
        """The number behind the word."""
        return self.judgement.reason

    @property
    def healthy_up_to(self) -> int:
        """The lag within which no more than two decades are lost or gained, read off the measured curve."""
        return self.judgement.reach

    @property
    def causes(self) -> tuple[str, ...]:
        """The names in `undone`."""
        return tuple(self.undone)

    @property
    def remedy(self) -> str:
        """The first change, with D as it was measured with it on all steps; "" if none was found."""
        return str(self.trials[0]) if self.trials else ""

    @property
    def cause(self) -> str:
        """What made it so, or why none is named; "" where there is nothing to explain."""
        judged = self.judgement
        if judged.word == "healthy" or judged.reason.startswith("the loss"):
            return ""
        if self.undone:
            return " or ".join(f"{name} (put back: {j.word}, D = {j.decades:.1f})" for name, j in self.undone.items())
        if judged.reason.startswith("the inputs are"):
            return judged.reason
        if not self.default:
            return "is looked for in the package's own cells only, whose default weights are known"
        if self.worse and self.trained:
            return "training: default networks do better"
        same = not self.worse and sum(j.word != "healthy" for j in self.default) > len(self.default) / 2
        return "none is named: " + (
            "default networks do the same" if same else "nothing put back alone makes it healthy"
        )


def _ill(judged: Judgement, before: Judgement) -> float:
    """Decades from healthy in the direction in which the network is ill."""
    lost = 0.0 if before.level >= BLOCKED and judged.decades * before.decades < 0 else abs(judged.decades)
    return 400.0 if judged.level < BLOCKED or not lost < 400 else max(lost - HEALTHY, 0.0)


def find(experiment: Experiment, before: Judgement, was: list[End], trained: bool) -> Verdict:
    """Default networks, causes and changes; of weights that were trained, changes of the inputs alone."""
    if isinstance(experiment.model, Tensor):
        return Verdict(before)
    ours = is_ours(experiment.model)
    twins = [verdict(put_back(experiment, seed)) for seed in range(SEEDS if ours else 0)]
    default = tuple(judged for judged, _ in twins)
    curves = tuple(_median_curve(ends, before.end) for _, ends in twins)
    if before.word == "healthy" or math.isnan(before.decades) or before.reason.startswith("the inputs are"):
        return Verdict(before, default, curves=curves)
    undone, worse = causes_of(experiment, before, trained) if ours else ({}, False)
    search, data = Search(experiment, before, was), {"standardise": True}
    first = [search.trial(data, few=False)] if "size of the inputs" in undone else []
    rest = [] if trained else [trial for trial in search.run() if not (first and trial.changes == data)]
    return Verdict(before, default, undone, (*filter(None, first), *rest), curves, worse, trained)


def _median_curve(ends: list[End], name: str) -> Array:
    """The curve of the end of this name; NaN where no sequence is that long."""
    curve = next(end for end in ends if end.name == name).curve
    long = ~np.isnan(curve).all(axis=1)
    found = np.full(len(curve), np.nan)
    found[long] = np.nanmedian(curve[long], axis=1)
    return found


def causes_of(experiment: Experiment, before: Judgement, trained: bool) -> tuple[dict[str, Judgement], bool]:
    """What makes the word healthy if it alone is put back.

    Or, where this network is worse than default ones are on standardised data, what brings it back to those: default
    networks are ill at long lags themselves.
    """
    undone: dict[str, Judgement] = {}
    plain = experiment
    try:
        plain = changed(experiment, {"standardise": True})
        undone["size of the inputs"] = verdict(plain)[0]
    except (ValueError, TypeError):
        pass
    if not trained:
        undone |= {part: verdict(put_back(experiment, SEED, [part]))[0] for part in PARTS}
    known = [_ill(verdict(put_back(plain, seed))[0], before) for seed in range(SEEDS)]
    limit, now = 1.25 * max(known) + HEALTHY, _ill(before, before)
    back = max(limit, 0.2 * now) if now > limit else -1.0
    named = {part: j for part, j in undone.items() if j.word == "healthy" or _ill(j, before) <= back}
    return named, now > limit

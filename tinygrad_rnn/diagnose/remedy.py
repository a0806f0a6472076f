"""What default networks do, what made this one worse, and which changes let it see further: each measured.

After this file the reader knows that nothing is looked up. A cause is what, put back alone, makes the network healthy.
A change is searched: its factor is scanned and then narrowed towards the healthy side, it is measured on all steps, and
it is refused where it overshoots, saturates or blows up.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ..files import Brief
from ..nn.module import once
from ..tensor import GradientError, Tensor
from .chain import Array
from .changes import DEFAULT, KINDS, PARTS, Changes, changed, checked, label_of
from .ends import End, median_by_lag
from .experiment import Experiment, cells_of, is_ours
from .verdict import BLOCKED, HEALTHY, Judgement, in_decades, power, verdict

SIZE = "size of the inputs"
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
        now = f"{'still' if self.after.word == self.before.word else 'now'} {self.after.word}"
        said = "HEALTHY" if self.heals else f"refused, {self.refused}" if self.refused else now
        most = f"the most that gets through from {power(self.before.level)} to {power(self.after.level)}, "
        through = most * (self.before.level < BLOCKED)
        return f"{self.label}: {through}D from {in_decades(self.before.decades)} to {in_decades(self.decades)}, {said}"


Family = tuple[str, str, tuple[Any, ...]]
"""Its kind, of which a pair has no two; the name of a change; its values, the gentlest first."""


def families(experiment: Experiment, steps: int) -> Iterator[Family]:
    """What may apply to a network; an LSTM's two gate biases first: the forget bias alone teaches little."""
    if not is_ours(experiment.model):
        yield from ((name, "scale", KINDS["scale"].tried) for name in once(experiment.model.parameters().items()))
        return
    cells, lag = cells_of(experiment.model), max(experiment.lag or steps - 1, 2)
    for name, kind in KINDS.items():
        if name == "redraw":
            yield from ((part, name, (part,)) for part in kind.tried)
        elif name != "scale" and kind.suits(cells):
            now = getattr(cells[0], "nonlinearity", None)
            yield kind.part, name, tuple(lag * v if name == "chrono" else v for v in kind.tried if v != now)


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
        changes = checked(changes)
        try:
            experiment = changed(self.experiment, changes)
            after, ends = verdict(experiment.few(2) if few else experiment)
        except (ValueError, TypeError, ArithmeticError, GradientError):
            return None
        return Trial(changes, self.before, after, objection(self.before, self.was, after, ends))

    def scan(self, family: Family, base: Changes) -> Trial | None:
        """The best value of one change, on top of others: scanned, and narrowed if it is a factor."""
        kind, name, values = family

        def tried_with(value: Any, few: bool = True) -> Trial | None:
            changes = {"scale": {**base.get("scale", {}), kind: value}} if name == "scale" else {name: value}
            return self.trial({**base, **changes}, few)

        tried = {value: found for value in values if (found := tried_with(value)) is not None}
        for k in range(10 if name.endswith("scale") and tried else 0):
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
        best: dict[Family, Trial] = {}
        for family in self.families:
            if sum(t.heals for t in best.values()) < 3 and (trial := self.scan(family, {})) is not None:
                best[family] = trial
        found = [*best.values()]
        for (kind, *_), first in sorted(best.items(), key=lambda item: item[1].cost)[:4]:
            for family in [] if any(t.heals for t in found) else self.families:
                if family[0] != kind and self.spent < MOST_TRIALS:
                    pair = self.scan(family, first.changes)
                    found += [] if pair is None or pair.changes in [t.changes for t in found] else [pair]
        return sorted(found, key=lambda t: (not t.heals, (0.0, 0.0) if t.heals else t.cost))


# --- causes ---


@dataclass(frozen=True, repr=False)
class Verdict(Judgement, Brief):
    """What the report says about a network: the word and its numbers, and what was found about them.

    Attributes
    ----------
    default : tuple of Judgement
        The same network with default weights, on the same data: 5 seeds.
    undone : dict of str to Trial
        What made it so ("size of the inputs", "recurrent weights", "input weights", "biases"), with that alone put
        back.
    trials : tuple of Trial
        The changes that were found, those that heal first.
    curves : tuple of array, shape (K,)
        What inputs move the output by in the default networks, by lag: the median over the sequences.
    worse : bool
        Whether it is further from healthy than default networks are on standardised data, by a quarter and 2 decades.
    trained : bool
    """

    default: tuple[Judgement, ...] = ()
    undone: Mapping[str, Trial] = field(default_factory=dict)
    trials: tuple[Trial, ...] = ()
    curves: tuple[Array, ...] = ()
    worse: bool = False
    trained: bool = False

    @property
    def healthy_up_to(self) -> int:
        """The lag within which no more than two decades are lost or gained, read off the curve; 0 if none gets in."""
        return self.reach

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
        if self.word == "healthy" or self.about in ("loss", "steps"):
            return ""
        if self.about == "inputs":
            return self.reason
        if self.undone:
            return " or ".join(
                f"{name} (put back: {t.after.word}, D = {in_decades(t.decades)}{t.refused and f', but {t.refused}'})"
                for name, t in self.undone.items()
            )
        if not self.default:
            return "is looked for in the package's own cells only, whose default weights are known"
        if self.worse and self.trained:
            return "training: default networks do better"
        wall = self.level < BLOCKED
        alike = sum(j.word == self.word or (_ill(j, self) > 0 and (j.level < BLOCKED) is wall) for j in self.default)
        same = not self.worse and alike > len(self.default) / 2
        return f"none is named: {'default networks do the same' if same else 'nothing put back alone makes it healthy'}"


def _ill(judged: Judgement, before: Judgement) -> float:
    """Decades from healthy in the direction in which the network is ill."""
    lost = 0.0 if before.level >= BLOCKED and judged.decades * before.decades < 0 else abs(judged.decades)
    return 400.0 if judged.level < BLOCKED or not lost < 400 else max(lost - HEALTHY, 0.0)


def find(experiment: Experiment, before: Judgement, was: list[End], trained: bool) -> Verdict:
    """Default networks, causes and changes; of weights that were trained, changes of the inputs alone."""
    ours = is_ours(experiment.model)
    twins = [verdict(changed(experiment, DEFAULT, seed)) for seed in range(SEEDS if ours else 0)]
    default = tuple(judged for judged, _ in twins)
    curves = tuple(median_by_lag(next(end for end in ends if end.name == before.end).curve) for _, ends in twins)
    beside = Verdict(**vars(before), default=default, curves=curves)
    if before.word == "healthy" or before.about or isinstance(experiment.model, Tensor):
        return beside
    search = Search(experiment, before, was)
    undone, worse = causes_of(search, trained) if ours else ({}, False)
    trials = [undone[SIZE]] if SIZE in undone else []
    if not trained:
        trials += [trial for trial in search.run() if not (trials and trial.changes == trials[0].changes)]
    return replace(beside, undone=undone, trials=tuple(trials), worse=worse, trained=trained)


def causes_of(search: Search, trained: bool) -> tuple[dict[str, Trial], bool]:
    """What makes the word healthy if it alone is put back, and whether this network is worse than default ones.

    Where it is, a cause is also what brings it back to those on standardised data: default networks are ill at long
    lags themselves.
    """
    before, data = search.before, {"standardise": True}
    suspects: dict[str, Changes] = {SIZE: data} | {part: {"redraw": part} for part in (() if trained else PARTS)}
    tried = {name: t for name, changes in suspects.items() if (t := search.trial(changes, few=False)) is not None}
    plain = changed(search.experiment, data) if SIZE in tried else search.experiment
    twins = [verdict(changed(plain, DEFAULT, seed))[0] for seed in range(SEEDS)]
    most = max((_ill(twin, before) for twin in twins if twin.level >= BLOCKED or before.level < BLOCKED), default=0.0)
    limit, now = 1.25 * most + HEALTHY, _ill(before, before)
    back = min(max(limit, 0.2 * now), (now + most) / 2) if now > limit else -1.0  # half of the way at least
    undone = {name: t for name, t in tried.items() if t.after.word == "healthy" or _ill(t.after, before) <= back}
    return undone, now > limit

"""The reports as text: what people read first, and what a terminal shows."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from ..files import columns, counted
from ..graph.line import median
from .flow import Flow
from .measure import edges_up_to
from .remedy import Trial
from .verdict import BLOCKED, in_decades, power


def report(flow: Flow) -> Iterator[str]:
    """The lines of the whole report."""
    judged, end, setting = flow.judgement, flow.end, flow.setting
    batch = end.curve.shape[1]
    long = int(np.sum(np.sum(~np.isnan(end.curve), axis=0) > judged.lag))
    asked = f"; lag {judged.lag} is asked for" * (judged.about != "loss")
    asked += ", all there is (lag= if the task needs less)" * (
        judged.about not in ("loss", "steps") and flow.experiment.lag is None
    )
    asked += f"; {long} {'is' if long == 1 else 'are'} that long" if 0 < long < batch else ""
    steps = f"T = {counted(setting.steps, 'step')}, " * bool(setting.steps)
    yield f"{setting.model}, {setting.when}: {steps}{counted(batch, 'sequence')}, float64{asked}"
    yield setting.loss
    yield ""
    yield from verdict(flow)
    if (read := flow.experiment.read) not in (None, setting.steps):
        yield from ("", f"so far lags were counted from step {read}; from here on they are from step {setting.steps}")
    if flow.lanes:
        yield from _slopes(flow)
        yield from _paths(flow)
    yield from _values(flow)
    yield from _weights(flow)
    yield from _theory(flow)


BLIND = (
    "if it does not learn all the same, look at what no gradient shows: learning rate, targets, shuffling,",
    "padding, a wrong axis, and whether the data says at all what it is to learn",
)


def verdict(flow: Flow) -> Iterator[str]:
    """The verdict: the word, how far this loss sees, default networks, causes, and changes as they were measured."""
    judged, found = flow.judgement, flow.verdict
    for end in flow.ends:
        if end.states and end.x is None:
            yield f"note      no inputs are found in this graph: D and lags are those of {end.of}"
        said = [note for note in (*end.notes, end.unread) if note not in ("", judged.reason)]
        if len(flow.ends) > 1 and len(end.curve) < 2 and end.step:
            said.append("read after one step, of which alone it tells")
        yield from (f"note      {f'{end.name}: ' * bool(end.name)}{note}" for note in said)
    yield f"verdict   {judged.word.upper()} {flow.setting.when}: {judged.reason}"
    measured = judged.level >= BLOCKED and not np.isnan(flow.end.curve).all()  # else it would be of nothing
    said = [f"within two decades up to lag {judged.reach}"] * measured
    said += [f"in float32 ∂L/∂{flow.end.of} is zero from lag {judged.zero_lag} on"] * (judged.zero_lag is not None)
    yield from [f"          {'; '.join(said)}"] * bool(said)
    if (other := flow.rounded) is not None:
        pair = [f"{in_decades(j.decades)}, {j.word.upper()}" for j in (judged, other)]
        chaos = f"          chaos, in which rounding grows: with each weight × (1 + 2⁻⁵²) D is {pair[1]}"
        yield from [chaos] * (pair[0] != pair[1])
    yield from _curves(flow)
    if found.default:
        known = sorted(j.decades for j in found.default if not (j.about or math.isnan(j.decades)))
        lost = f", D (decades lost) = {in_decades(known[0])} ... {in_decades(known[-1])}" if known else ""
        lost = ", all is lost" if known and known[0] == math.inf else lost
        words = Counter(j.word for j in found.default).most_common()
        told_of = ", ".join(f"{word} {n} of {len(found.default)}" if len(words) > 1 else word for word, n in words)
        yield f"default   weights, same data, {len(found.default)} seeds: {told_of}{lost}"
    if judged.word == "healthy":
        yield from (f"          {line}" for line in BLIND)
        return
    if found.cause:
        yield f"cause     {found.cause}"
    yield from (f"change    {trial}" for trial in shown(flow))
    if flow.trained:
        yield f"question  does your task need more than {judged.reach} steps? If not, nothing is amiss"
    elif found.trials:
        yield "          measured, not promised: cure(flow, train) says which of them learn"


def shown(flow: Flow) -> Sequence[Trial]:
    """The changes that are worth printing: four that help as printed, and nothing refused beside one that heals."""
    trials = [t for t in flow.verdict.trials if t.heals or t.before.far - t.after.far > 0.05]
    heals = any(trial.heals for trial in trials)
    return [trial for trial in trials if not (heals and trial.refused)][:4]


def _curves(flow: Flow) -> Iterator[str]:
    end, lag = flow.end, flow.judgement.lag
    lags = sorted({k for k in (0, 1, 10, lag // 2, lag) if k < len(end.curve)})
    curves = {} if end.x is None else {"inputs": end.x}
    curves |= {f"{name} {layer}".strip(): a for (layer, name), a in end.states.items()}
    rows = [("log10 of what is left", *(f"lag {k}" for k in lags))]
    rows += [(name, *(_number(median(a[k]), "z.1f") for k in lags)) for name, a in curves.items()]
    yield from (f"          {line}" for line in columns(rows, right=True))


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]], *notes: str) -> Iterator[str]:
    """An aligned table, after a blank line, and what is to be said of it; nothing, if it has no rows."""
    if rows := list(rows):
        yield from ["", *columns([heads, *rows], right=True), *notes]


def _slopes(flow: Flow) -> Iterator[str]:
    rows = []
    for lane in flow.lanes.values():
        line = lane.line
        numbers = _number(line.slope, "+.4f"), _number(line.spread, ".4f"), _number(float(np.median(line.r2)), ".2f")
        half = "-" if math.isnan(line.slope) else f"{'' if line.slope <= 0 else '×2 in '}{line.half_life:.3g}"
        rows.append((f"∂L/∂{lane.label}", *numbers, f"{line.first}..{line.last}", half))
    yield from _table(("gradient", "slope, decades a step", "spread", "R²", "lags", "halves in"), rows)


def _number(value: float, spec: str) -> str:
    return format(value, spec) if math.isfinite(value) else "zero" if value == -math.inf else "-"


def _norm(log: float) -> str:
    return f"{10.0**log:.3g}" if abs(log) < 300 else power(log)


def _paths(flow: Flow) -> Iterator[str]:
    lags = (*edges_up_to(flow.setting.steps), flow.setting.steps)
    rows, notes = [], dict[str, str]()
    for (layer, name), share in flow.shares.items():
        numbers = ("-" if np.isnan(share.mean[k]) else f"{share.mean[k]:z.2f}" for k in lags)
        rows.append((f"carried in {name} {layer}".strip(), *numbers))
        what = f"carried: share of ∂L/∂{name} that came along {name} itself (a projection: may leave [0, 1])"
        alone = flow.without("gates", (layer, name)).line.slope
        falls = "" if math.isnan(alone) else f"; {f'{layer} ' * bool(layer)}alone: {alone:+.4f} decades a step"
        notes[what] = notes.get(what, "") + falls
    yield from _table(("at lag", *map(str, lags)), rows, *(what + falls for what, falls in notes.items()))


def _values(flow: Flow) -> Iterator[str]:
    rows = []
    for a in flow.activations.values():
        numbers = (a.mean, a.least, a.most, a.slope_mean, a.slope_least, a.slope_most)
        shares = f"{a.saturated:.0%}", f"{a.dead:.0%}"
        rows.append((f"{a.name} {a.layer}".strip(), *(f"{n:.3g}" for n in numbers), *shares))
    heads = ("values", "mean", "least", "most", "φ′ mean", "φ′ least", "φ′ most", "saturated", "dead units")
    yield from _table(heads, rows, "φ′: the slope of the activation, at what it was given in this run")


def _weights(flow: Flow) -> Iterator[str]:
    if (found := flow.by_lag) is None:
        return
    edges = [edge for edge in found.edges if edge in (0, 1, 5, 10, 20, 50, 100, 500, 1000, 5000)]
    rows = [
        (name, _norm(found.log_norm(name)), *(_number(found.share_beyond(name, edge), ".2g") for edge in edges))
        for name in found.names
    ]
    heads = ("parameter", "‖∂L/∂W‖", *(f"beyond {edge}" for edge in edges))
    of = "‖∂L/∂W‖: of the mean of L over the sequences" * (found.mean and flow.setting.sequences > 1)
    beyond = "beyond k: the share of it that comes from more than k steps back"
    yield from _table(heads, rows, *filter(None, (of, beyond)))


def _theory(flow: Flow) -> Iterator[str]:
    yield from _table(("theory", "kind", "decades a step"), ((t.name, t.kind, f"{t.slope:+.4f}") for t in flow.theory))


def comparison(table: Sequence[Mapping[str, Any]]) -> str:
    """The table of a comparison, aligned."""
    shown = [
        ["-" if v is None else _number(v, ".4g") if isinstance(v, float) else v for v in r.values()] for r in table
    ]
    rows = [[*table[0]], *([str(value) for value in row] for row in shown)]
    return "\n".join(columns(rows, right=True))

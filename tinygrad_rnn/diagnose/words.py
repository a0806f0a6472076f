"""The reports as text: what people read first, and what a terminal shows."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from .compare import Comparison
    from .measure import Lane
    from .report import GradientFlow

SHOWN = (0, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000)


def report(flow: GradientFlow) -> str:
    """The whole report."""
    return "\n".join(_lines(flow))


def _lines(flow: GradientFlow) -> Iterator[str]:
    setting = flow.setting
    sequences = f"{setting.sequences} sequence{'s' * (setting.sequences != 1)}"
    yield f"{setting.model}, {setting.when}: T = {setting.steps} steps, {sequences}, float64"
    yield setting.loss
    yield ""
    yield from verdict(flow)
    yield ""
    yield from _slopes(flow)
    yield from _by_lag(flow)
    yield from _paths(flow)
    yield from _values(flow)
    yield from _weights(flow)
    yield from _theory(flow)


def verdict(flow: GradientFlow) -> Iterator[str]:
    """The verdict: the word, how far it is healthy, the cause, what to try."""
    judged, line = flow.judgement, flow.main.line
    what = flow.verdict
    yield f"verdict   {judged.word.upper()} {flow.setting.when}: {judged.reason}"
    if math.isfinite(line.slope):
        change = "halves" if line.slope < 0 else "doubles"
        yield (
            f"          ∂L/∂{flow.main.label} {change} every {line.half_life:.3g} steps; healthy up to a lag of "
            f"{_count(what.healthy_up_to, flow.setting.steps)} (within one decade)"
        )
    if flow.zero_lag is None and math.isfinite(flow.zero_lag_at_this_rate):
        yield f"          at this rate float32 reads zero from lag {flow.zero_lag_at_this_rate:.0f} on"
    if what.cause:
        yield f"cause     {what.cause}, the single change that moves |D| most"
    yield f"try       {what.remedy}"


def _count(lag: float, steps: int) -> str:
    return f"all {steps} steps" if lag >= steps else f"{lag:.0f}"


def _slopes(flow: GradientFlow) -> Iterator[str]:
    rows = [("gradient", "slope, decades a step", "spread", "R²", "lags", "halves in", "verdict")]
    for lane in flow.lanes.values():
        line = lane.line
        half = "-" if math.isnan(line.slope) else f"{'' if line.slope <= 0 else '×2 in '}{line.half_life:.3g}"
        rows.append(
            (
                f"∂L/∂{lane.label}",
                _number(line.slope, "+.4f"),
                _number(line.spread, ".4f"),
                _number(float(np.median(line.r2)), ".2f"),
                f"{line.first}..{line.last}",
                half,
                flow.judge(lane).word if lane.state else "",
            )
        )
    yield from columns(rows)


def _number(value: float, spec: str) -> str:
    return "-" if not math.isfinite(value) else format(value, spec)


def _lags(last: int) -> list[int]:
    return sorted({lag for lag in SHOWN if lag < last} | {last})


def _by_lag(flow: GradientFlow) -> Iterator[str]:
    states = [lane for lane in flow.lanes.values() if lane.state]
    lags = _lags(len(states[0].logs) - 1)
    rows = [("norm at lag", *map(str, lags))]
    for lane in states:
        rows.append((f"∂L/∂{lane.label}", *(_power(_median(lane, k)) for k in lags)))
    for share in flow.shares.values():
        name = f"carried in {share.name} {share.layer}".strip()
        rows.append((name, *("-" if np.isnan(share.mean[k]) else f"{share.mean[k]:.2f}" for k in lags)))
    yield ""
    yield from columns(rows)


def _median(lane: Lane, lag: int) -> float:
    return float(np.median(lane.logs[lag]))


def _power(log: float) -> str:
    if log == -math.inf:
        return "0"
    exponent = math.floor(log)
    return f"{10 ** (log - exponent):.1f}e{exponent}" if not -3 <= log < 3 else f"{10**log:.3g}"


def _paths(flow: GradientFlow) -> Iterator[str]:
    for share in flow.shares.values():
        alone = flow.without("gates", (share.layer, share.name)).line.slope
        yield (
            f"carried: share of ∂L/∂{share.name} that came along {share.name} itself (a projection: may leave [0, 1]); "
            f"alone it would fall by {_number(alone, '+.4f')} decades a step"
        )


def _values(flow: GradientFlow) -> Iterator[str]:
    if not flow.activations:
        return
    rows: list[tuple[str, ...]] = [
        ("values", "mean", "least", "most", "φ′ mean", "φ′ least", "φ′ most", "saturated", "dead units")
    ]
    for a in flow.activations.values():
        numbers = (a.mean, a.least, a.most, a.slope_mean, a.slope_least, a.slope_most)
        rows.append(
            (f"{a.name} {a.layer}".strip(), *(f"{n:.3g}" for n in numbers), f"{a.saturated:.0%}", f"{a.dead:.0%}")
        )
    yield ""
    yield from columns(rows)


def _weights(flow: GradientFlow) -> Iterator[str]:
    if flow.by_lag is None:
        return
    edges = [edge for edge in flow.by_lag.edges if edge in (0, 1, 5, 10, 20, 50, 100, 500, 1000, 5000)]
    rows = [("parameter", "‖∂L/∂W‖", *(f"beyond {edge}" for edge in edges))]
    for name in flow.by_lag.names:
        shares = (f"{flow.by_lag.share_beyond(name, edge):.2g}" for edge in edges)
        rows.append((name, _power(flow.by_lag.log_norm(name)), *shares))
    yield ""
    yield from columns(rows)
    yield "beyond k: the share of it that comes from more than k steps back"


def _theory(flow: GradientFlow) -> Iterator[str]:
    if not flow.theory:
        return
    yield ""
    yield from columns(
        [("theory", "kind", "decades a step")] + [(t.name, t.kind, f"{t.slope:+.4f}") for t in flow.theory]
    )


def comparison(compared: Comparison) -> str:
    """The table of a comparison."""
    rows = [("network", "T", "slope", "spread", "D", "halves in", "carried at 10", "verdict")]
    for row in compared.table():
        share = row["carried at lag 10"]
        slope = row["slope"]
        rows.append(
            (
                row["network"],
                str(row["steps"]),
                _number(slope, "+.4f"),
                _number(row["spread"], ".4f"),
                f"{row['decades lost']:+.1f}",
                f"{'×2 in ' if slope > 0 else ''}{row['half-life']:.3g}",
                "-" if share is None else f"{share:.2f}",
                row["verdict"],
            )
        )
    return "\n".join(columns(rows))


def columns(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Rows in aligned columns, the first one to the left, the others to the right."""
    widths = [max(len(row[k]) for row in rows) for k in range(len(rows[0]))]
    for row in rows:
        cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        yield "  ".join(cells).rstrip()

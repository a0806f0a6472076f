"""The report of `gradient_flow`: numbers, a table, a chart, JSON, and a verdict in words.

After this file the reader knows what each line of the report says and from which numbers it is made.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from ..files import write_whole
from .chain import Array, Chain
from .line import FLOAT32_ZERO
from .measure import Activation, ByLag, Key, Lane, Measured, Share, measure_without_carry
from .verdict import Judgement, judge

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from .compare import Comparison
    from .theory import Theory
    from .whatif import Verdict


@dataclass(frozen=True)
class Setting:
    """What was measured, in words and numbers."""

    model: str
    steps: int
    sequences: int
    loss: str
    when: str


class GradientFlow:
    """Where the gradient of one network goes on its way back through time.

    Attributes
    ----------
    setting : Setting
    lanes : dict of (layer, name) to Lane
        States and gates: norms by lag, the fitted line.
    shares : dict of (layer, name) to Share
        For each state that is carried from step to step (c of an LSTM, h of a GRU), how much came that way.
    activations : dict of (layer, name) to Activation
        Openness of gates, slopes of nonlinearities, saturation, dead units.
    by_lag : ByLag or None
        ∂L/∂W, split by the lag that it comes from.
    """

    def __init__(
        self,
        setting: Setting,
        measured: Measured,
        *,
        chain: Chain | None = None,
        model: Any = None,
        inputs: Any = None,
        loss: Any = "last",
        direction: Array | None = None,
        state: Any = None,
    ) -> None:
        self.setting = setting
        self.lanes: dict[Key, Lane] = measured.lanes
        self.shares: dict[Key, Share] = measured.shares
        self.activations: dict[Key, Activation] = measured.activations
        self.by_lag: ByLag | None = measured.by_lag
        self.chain, self.model, self.inputs = chain, model, inputs
        self.loss, self.direction, self.state = loss, direction, state

    # -- One state or gate ---------------------------------------------------------------------------------------------

    def __getitem__(self, key: str | Key) -> Lane:
        """A state or gate: ``["h"]``, ``["c"]``, ``["f"]`` of a single layer, ``["layer 1", "h"]`` of several."""
        key = ("", key) if isinstance(key, str) else key
        if key in self.lanes:
            return self.lanes[key]
        known = ", ".join(repr(name if not layer else (layer, name)) for layer, name in self.lanes)
        raise KeyError(f"no {key!r} among {known}")

    @cached_property
    def main(self) -> Lane:
        """The state that the verdict is about: h of the lowest layer, which all that reaches the inputs passes."""
        states = [lane for lane in self.lanes.values() if lane.state]
        named = [lane for lane in states if lane.name == "h"]
        return (named or states)[0]

    @property
    def slope(self) -> float:
        """Decades per step back in time; the median over the sequences."""
        return self.main.line.slope

    @property
    def slopes(self) -> Array:
        """The slope of each sequence, shape (B,)."""
        return self.main.line.slopes

    @property
    def half_life(self) -> float:
        """Steps in which the gradient halves, or doubles."""
        return self.main.line.half_life

    @property
    def decades_lost(self) -> float:
        """D = -slope × T, the median over the sequences; inf where the gradient is zero at once."""
        return self.judgement.decades

    @property
    def zero_lag(self) -> int | None:
        """The first lag at which ∂L/∂h is zero in float32, in the median sequence; None if there is none up to T."""
        return self.judgement.zero_lag

    @property
    def zero_lag_at_this_rate(self) -> float:
        """The lag at which the fitted line would reach float32's zero; inf if it does not fall."""
        line, known = self.main.line, np.isfinite(self.main.logs)
        if not line.slope < 0:
            return math.inf
        offset = float(np.median(self.main.peaks[known] - self.main.logs[known]))
        return (FLOAT32_ZERO - offset - line.intercept) / line.slope

    @cached_property
    def judgement(self) -> Judgement:
        """The word for the main state, and the number behind it."""
        return self.judge(self.main)

    def judge(self, lane: Lane) -> Judgement:
        """The word for any state."""
        return judge(lane.line, lane.logs, lane.peaks, self.setting.steps)

    @property
    def word(self) -> str:
        """Exploding, growing, healthy, fading, vanishing, or cannot tell."""
        return self.judgement.word

    # -- What would be, and why ----------------------------------------------------------------------------------------

    def without(self, path: str, state: Key | str | None = None) -> Lane:
        """What would be left of a carried state's gradient if one of its two paths were cut.

        Parameters
        ----------
        path : {"carried", "gates"}
            "gates" leaves what is carried (in an LSTM the cell path, Π f); "carried" leaves what comes through gates
            and h.
        state : str or (layer, name), optional
            Default: the first that is carried.

        Raises
        ------
        ValueError
            If the network carries no state, as a simple RNN, or for another path.
        """
        if path not in ("carried", "gates"):
            raise ValueError(f"path {path!r} is neither 'carried' nor 'gates'")
        if not self.shares or self.chain is None:
            raise ValueError(f"{self.setting.model} carries no state from step to step: there are no two paths to cut")
        key = next(iter(self.shares)) if state is None else ("", state) if isinstance(state, str) else state
        if key not in self.shares:
            raise KeyError(f"no {key!r} among {', '.join(map(repr, self.shares))}")
        if path == "gates":
            logs = self.shares[key].logs
            return Lane(*key, logs, logs, True)
        from .flow import seeds_of

        assert self.direction is not None
        k = self.chain.labels().index(key)
        logs_, peaks = measure_without_carry(self.chain, seeds_of(self.chain, self.loss, self.direction), k)
        return Lane(*key, np.array(logs_), np.array(peaks), True)

    @cached_property
    def theory(self) -> tuple[Theory, ...]:
        """Lines that theory draws beside the measurement: bounds, estimates and exact ones, each labelled."""
        from .theory import theory_of

        return theory_of(self.chain) if self.chain is not None else ()

    @cached_property
    def verdict(self) -> Verdict:
        """The word, its cause (the one change that moves D most), and one change to try; measured when asked for."""
        from .whatif import find_cause

        return find_cause(self)

    def what_if(self, **change: Any) -> Comparison:
        """The same network with one thing changed, beside it: see `what_if`."""
        from .whatif import what_if

        return what_if(self, **change)

    # -- Showing it ----------------------------------------------------------------------------------------------------

    def text(self) -> str:
        """The report in words and numbers."""
        from .words import report

        return report(self)

    __str__ = text

    def __repr__(self) -> str:
        return f"GradientFlow({self.setting.model}, T={self.setting.steps}, B={self.setting.sequences}: {self.word})"

    def table(self, lags: Iterable[int] | None = None) -> list[dict[str, Any]]:
        """Rows for people and spreadsheets: per lag, log10 of each state's and gate's norm, and the carried share.

        Parameters
        ----------
        lags : iterable of int, optional
            Default: all.

        Returns
        -------
        list of dict
            Keys: "lag"; "log10 dL/dh" and so on, the median over the sequences; "share c", its mean.
        """
        rows = []
        for k in range(self.setting.steps + 1) if lags is None else lags:
            row: dict[str, Any] = {"lag": k}
            for lane in self.lanes.values():
                if k < len(lane.logs):
                    row[f"log10 dL/d{lane.label}"] = float(np.median(lane.logs[k]))
            for share in self.shares.values():
                row[f"share {share.name} {share.layer}".strip()] = float(share.mean[k])
            rows.append(row)
        return rows

    def to_dict(self) -> dict[str, Any]:
        """The report as plain data; numbers that are not finite are strings, as JSON has none."""
        judged = self.judgement
        lanes = [
            {
                "layer": lane.layer,
                "name": lane.name,
                "state": lane.state,
                "slope": lane.line.slope,
                "slopes": lane.line.slopes.tolist(),
                "half_life": lane.line.half_life,
                "r2": lane.line.r2.tolist(),
                "lags": [lane.line.first, lane.line.last],
                "word": self.judge(lane).word if lane.state else None,
                "log10_norm": lane.logs.tolist(),
            }
            for lane in self.lanes.values()
        ]
        verdict = {
            "word": judged.word,
            "decades_lost": judged.decades,
            "reason": judged.reason,
            "zero_lag": judged.zero_lag,
        }
        if self.chain is not None:
            verdict |= {"cause": self.verdict.cause, "try": self.verdict.remedy}
        shares = [
            {"layer": s.layer, "name": s.name, "carried": s.carried.tolist(), "log10_carried": s.logs.tolist()}
            for s in self.shares.values()
        ]
        activations = [
            {k: v for k, v in vars(a).items() if not k.startswith("_") and not isinstance(v, np.ndarray)}
            for a in self.activations.values()
        ]
        weights = {}
        if self.by_lag is not None:
            edges = self.by_lag.edges
            for name in self.by_lag.names:
                beyond = {edge: self.by_lag.share_beyond(name, edge) for edge in edges}
                weights[name] = {"log10_norm": self.by_lag.log_norm(name), "share_beyond_lag": beyond}
        theory = [line.to_dict() for line in self.theory]
        data: dict[str, Any] = _jsonable(
            {
                "setting": vars(self.setting),
                "verdict": verdict,
                "lanes": lanes,
                "shares": shares,
                "activations": activations,
                "weights_by_lag": weights,
                "theory": theory,
            }
        )
        return data

    def to_json(self, path: str | os.PathLike[str] | None = None) -> str:
        """The report as JSON; with a path, also written there, whole or not at all."""
        text = json.dumps(self.to_dict(), ensure_ascii=False, allow_nan=False, indent=1) + "\n"
        if path is not None:
            write_whole(path, text)
        return text

    def plot(self, axes: Axes | None = None) -> Axes:
        """Draw the gradient of the states against the lag, with theory lines; needs ``tinygrad-rnn[plot]``."""
        from .charts import plot_flow

        return plot_flow(self, axes)

    def save(self, path: str | os.PathLike[str], title: str | None = None) -> None:
        """Write the chart; the suffix decides the format (.svg, .png, .pdf). Needs ``tinygrad-rnn[plot]``."""
        from .charts import save_flow

        save_flow(self, path, title)

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        from .charts import bundle, flow_figure

        return bundle(self.text(), lambda: flow_figure(self))


def _jsonable(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _jsonable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_jsonable(item) for item in value]
    if isinstance(value, (float, np.floating)):
        return float(value) if math.isfinite(value) else str(float(value))
    return value.item() if isinstance(value, np.generic) else value

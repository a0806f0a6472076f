"""What was measured of one network: its curves through time, and what they say.

After this file the reader knows where each number of the report comes from. The experiment is run; what reaches inputs
and states is measured; the verdict is read off the curves; causes and changes are looked for once somebody asks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from ..arguments import POSITIVE, number, wholes
from ..graph.line import median
from ..tensor import Tensor
from .chain import Array, Chain
from .ends import End, Key
from .experiment import Experiment
from .measure import Activation, ByLag, Lane, Measured, Share, measure_without_carry
from .remedy import Verdict, find
from .theory import Theory, theory_of
from .verdict import BLOCKED, HEALTHY, Judgement, reach, rounded, verdict


@dataclass(frozen=True)
class Setting:
    """What was measured, in words and numbers."""

    model: str
    steps: int
    sequences: int
    loss: str
    when: str


class Flow:
    """What `gradient_flow` measures of one network.

    Attributes
    ----------
    setting : Setting
    experiment : Experiment
    trained : bool
    about : dict of str to str
        What else is known of the experiment, such as the files that it comes from: it goes into the JSON.
    """

    def __init__(
        self,
        setting: Setting,
        experiment: Experiment,
        walk: Callable[[], Measured],
        chain: Chain | None = None,
        trained: bool = False,
    ) -> None:
        self.setting, self.experiment, self.chain, self.trained = setting, experiment, chain, trained
        self._walk, self.about = walk, dict[str, str]()

    def __getstate__(self) -> dict[str, Any]:
        """What a copy, or a file, holds: all that was measured, and no graph to measure it again."""
        model, kept = self.experiment.model, {"_judged": self._judged, "by_lag": self.by_lag, "_walk": None}
        bare = replace(self.experiment, model=model.detach()) if isinstance(model, Tensor) else self.experiment
        return {**vars(self), **kept, "measured": replace(self.measured, weights=None), "experiment": bare}

    @cached_property
    def measured(self) -> Measured:
        """What the walk back through time gives; taken when asked for, as the verdict needs less."""
        with np.errstate(over="ignore"):
            return self._walk()

    @property
    def lanes(self) -> dict[Key, Lane]:
        """States and gates, by (layer, name): norms by lag, the fitted line."""
        return self.measured.lanes

    @property
    def shares(self) -> dict[Key, Share]:
        """How much of a state's gradient came along the state itself (c of an LSTM, h of a GRU)."""
        return self.measured.shares

    @property
    def activations(self) -> dict[Key, Activation]:
        """Openness of gates, slopes of nonlinearities, saturation, dead units."""
        return self.measured.activations

    @cached_property
    def by_lag(self) -> ByLag | None:
        """∂L/∂W, split by the lag that it comes from; L is the mean over the sequences, but if it is your own."""
        found = self.measured.by_lag
        return found.whole(self.setting.sequences) if found and callable(self.experiment.loss) else found

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
        """h of the lowest layer, which all that reaches the inputs passes."""
        states = [lane for lane in self.lanes.values() if lane.state]
        named = [lane for lane in states or self.lanes.values() if lane.name == "h"]
        return (named or states)[0]

    @property
    def slope(self) -> float:
        """Decades per step back in time; the median over the sequences."""
        return self.main.line.slope

    @property
    def half_life(self) -> float:
        """Steps in which the gradient halves, or doubles."""
        return self.main.line.half_life

    @property
    def direction(self) -> Array:
        """v of the losses "last" and "all"."""
        return self.experiment.direction()

    # -- The verdict ---------------------------------------------------------------------------------------------------

    @cached_property
    def _judged(self) -> tuple[Judgement, list[End]]:
        return verdict(self.experiment)

    @property
    def judgement(self) -> Judgement:
        """The word of the worst end, and the numbers behind it."""
        return self._judged[0]

    @property
    def ends(self) -> list[End]:
        """What was measured: one end, or of a network in both directions two."""
        return self._judged[1]

    @property
    def end(self) -> End:
        """The one that the word is about."""
        return next(end for end in self.ends if end.name == self.judgement.end)

    @property
    def word(self) -> str:
        """The verdict in a word; nothing beyond the measurement is computed for it."""
        return self.judgement.word

    @property
    def decades_lost(self) -> float:
        """D, the median over the sequences; inf where nothing is left of the gradient."""
        return self.judgement.decades

    @property
    def zero_lag(self) -> int | None:
        """The lag from which on ∂L/∂x is zero in float32, in the median sequence; None if there is none."""
        return self.judgement.zero_lag

    def reach(self, decades: float = HEALTHY, layer: str | None = None) -> int:
        """The lag up to which no more than so many decades are lost or gained, in the median sequence.

        Of the inputs it is 0 where nothing gets through, though the curve may be flat.

        Parameters
        ----------
        decades : float
            The tolerance.
        layer : str, optional
            How deep: h of this layer, such as "layer 1", and not the inputs; "" for the only one.
        """
        number("decades", decades, POSITIVE)
        if layer is None:
            return 0 if self.judgement.level < BLOCKED and self.end.x is not None else reach(self.end.curve, decades)
        if (layer, "h") not in self.end.states:
            raise KeyError(f"no layer {layer!r} among {', '.join(repr(key[0]) for key in self.end.states)}")
        return reach(self.end.states[layer, "h"], decades)

    @cached_property
    def verdict(self) -> Verdict:
        """The word, what default networks do, causes, and what was found to change it; measured when asked for."""
        return find(self.experiment, self.judgement, self.ends, self.trained)

    @cached_property
    def rounded(self) -> Judgement | None:
        """The verdict if each weight were another in its last digit; None where this cannot matter."""
        return rounded(self.experiment, self.ends)

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
            If the network carries no state, as a simple RNN; for another path; or where paths are not told apart, as in
            both directions, with lengths, in a `Module` or a graph.
        """
        if path not in ("carried", "gates"):
            raise ValueError(f"path {path!r} is neither 'carried' nor 'gates'")
        if self.chain is None:
            raise ValueError("paths are told apart in a cell or a stack in one direction, without lengths=: not here")
        if not self.shares:
            raise ValueError(f"{self.setting.model} carries no state from step to step: there are no two paths to cut")
        key = next(iter(self.shares)) if state is None else ("", state) if isinstance(state, str) else state
        if key not in self.shares:
            raise KeyError(f"no {key!r} among {', '.join(map(repr, self.shares))}")
        if path == "gates":
            return Lane(*key, self.shares[key].logs, True, len(self.chain))
        k = self.chain.labels().index(key)
        logs = measure_without_carry(self.chain, self.experiment.seeds(self.chain), k)
        return Lane(*key, logs, True, len(self.chain))

    @cached_property
    def theory(self) -> tuple[Theory, ...]:
        """Lines that theory draws beside the measurement: bounds, estimates and exact ones, each labelled."""
        return theory_of(self.chain) if self.chain is not None else ()

    def table(self, lags: Iterable[int] | None = None) -> list[dict[str, Any]]:
        """Rows for people and spreadsheets: per lag, log10 of each state's and gate's norm, and the carried share.

        Parameters
        ----------
        lags : iterable of int, optional
            Default: all.

        Returns
        -------
        list of dict
            Keys: "lag"; "log10 input", what an input of its own size moves the output by; "log10 dL/dh" and so on, all
            medians over the sequences; "share c", its mean.
        """
        last, rows = self.setting.steps, []
        wanted = range(last + 1) if lags is None else wholes("lags", lags)
        if beyond := [k for k in wanted if k > last]:
            raise ValueError(f"lags {beyond} lie outside of 0 ... {last}")
        for k in wanted:
            row: dict[str, Any] = {"lag": k}
            if self.end.x is not None and k < len(self.end.x):
                row["log10 input"] = median(self.end.x[k])
            for lane in self.lanes.values():
                if k < len(lane.logs):
                    row[f"log10 dL/d{lane.label}"] = float(np.median(lane.logs[k]))
            for share in self.shares.values():
                row[f"share {share.name} {share.layer}".strip()] = float(share.mean[k])
            rows.append(row)
        return rows

"""Why, and what to change: the network measured again with one thing changed at a time.

After this file the reader knows how the report finds a cause without guessing: it tries the usual suspects one by one,
and names the one whose change moves |D| most.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..nn.cells import GRUCell, LSTMCell, RNNCell
from ..tensor import GradientError, Tensor
from .chain import Array, Chain
from .changes import changed, describe, input_weights, recurrent_weights
from .compare import Comparison
from .measure import Lane, Measured, measure
from .report import GradientFlow, Setting

LONGEST = 200
"""Steps, of the end of the sequence, on which a suspect is tried."""

LEAST = 0.1
"""By which share of |D|, and by how many decades, a change must improve it to count as its cause."""

GAIN = {"tanh": 5 / 3, "relu": math.sqrt(2.0), "sigmoid": 1.0, "identity": 1.0}
"""Up to which spectral radius recurrent weights are raised: the gains that PyTorch recommends."""


@dataclass(frozen=True)
class Trial:
    """One suspect: what was changed, and D with it."""

    kind: str
    change: tuple[str, Any]
    decades: float

    @property
    def label(self) -> str:
        """The change in words."""
        return describe(dict([self.change]))


@dataclass(frozen=True)
class Verdict:
    """What the report says about a network.

    Attributes
    ----------
    word : str
    decades : float
        D, lost over the sequence.
    reason : str
        The number behind the word.
    when : str
        "at initialisation", "after training", ...
    healthy_up_to : float
        The lag within which no more than one decade is lost or gained, at the measured slope.
    cause : str
        "recurrent weights", "input weights", "activation", "forget bias", "input bias", "update bias", "bias", "dead
        units"; "" where there is nothing to explain, or no single change helps.
    remedy : str
        One change to try, with D as measured with it.
    trials : tuple of Trial
        All that was tried, best first.
    """

    word: str
    decades: float
    reason: str
    when: str
    healthy_up_to: float
    cause: str
    remedy: str
    trials: tuple[Trial, ...]


def remeasure(flow: GradientFlow, twin: Any, inputs: Array, state: Any, light: bool) -> GradientFlow:
    """The same experiment with another network or other inputs."""
    from .flow import seeds_of

    assert flow.direction is not None
    chain = Chain(twin, inputs, state)
    full = not light
    measured = measure(chain, seeds_of(chain, flow.loss, flow.direction), paths=full, weights=full, values=full)
    was = flow.setting
    setting = Setting(was.model, len(chain), inputs.shape[1], was.loss, was.when)
    return GradientFlow(
        setting, measured, chain=chain, model=twin, inputs=inputs, loss=flow.loss, direction=flow.direction, state=state
    )


def what_if(flow: GradientFlow, **change: Any) -> Comparison:
    """Change one thing and see both lines.

    Parameters
    ----------
    flow : GradientFlow
        Of a cell or a stack in one direction.
    **change
        Exactly one of ``weight_scale=``, ``input_scale=``, ``weight_identity=`` (factors), ``nonlinearity=``,
        ``forget_bias=``, ``input_bias=``, ``update_bias=``, ``bias=``, ``chrono=`` (T_max), ``revive=True`` (dead
        units), ``steps=`` (the first of the series, repeated where it is too short), ``clip=`` (norm of the whole
        gradient).

    Returns
    -------
    Comparison
        "as it is", and the changed one.

    Raises
    ------
    ValueError
        If the flow is of a graph that was there already, or not exactly one change is given.
    """
    label = describe(change)
    ((name, value),) = change.items()
    if flow.chain is None:
        raise ValueError("what-if needs a cell or a stack in one direction, not a graph that is there already")
    if name == "clip":
        other = _clipped(flow, float(value))
    elif name == "steps":
        repeats = -(-int(value) // len(flow.inputs))
        inputs = np.concatenate([flow.inputs] * repeats)[: int(value)]
        if not len(inputs):
            raise ValueError(f"steps={value!r}: at least one")
        other = remeasure(flow, changed(flow.model, flow.chain, "", None), inputs, flow.state, light=False)
    else:
        other = remeasure(flow, changed(flow.model, flow.chain, name, value), flow.inputs, flow.state, light=False)
    return Comparison({"as it is": flow, label: other})


def _clipped(flow: GradientFlow, limit: float) -> GradientFlow:
    """Clipping by norm multiplies the whole gradient by one number: the line moves, and its slope stays."""
    if flow.by_lag is None or not limit > 0:
        raise ValueError("clip= is a positive norm, of the gradient of parameters that need one")
    logs = np.array([flow.by_lag.log_norm(name) for name in flow.by_lag.names])
    top = logs.max(initial=-math.inf)
    norm = top + 0.5 * math.log10(float(np.sum(10.0 ** (2 * (logs - top))))) if math.isfinite(top) else -math.inf
    shift = min(0.0, math.log10(limit) - norm)
    lanes = {k: Lane(v.layer, v.name, v.logs + shift, v.peaks + shift, v.state) for k, v in flow.lanes.items()}
    measured = Measured(lanes, flow.shares, flow.activations, flow.by_lag)
    return GradientFlow(
        flow.setting,
        measured,
        chain=flow.chain,
        model=flow.model,
        inputs=flow.inputs,
        loss=flow.loss,
        direction=flow.direction,
        state=flow.state,
    )


def find_cause(flow: GradientFlow) -> Verdict:
    """The verdict with its cause; takes up to ten measurements of at most 200 steps."""
    judged = flow.judgement
    slope = abs(flow.slope)
    healthy = math.inf if slope == 0 else 1 / slope if math.isfinite(slope) else 0.0
    if judged.zero_lag is not None:
        healthy = min(healthy, judged.zero_lag)
    base = (judged.word, judged.decades, judged.reason, flow.setting.when, healthy)
    if judged.word == "healthy":
        return Verdict(*base, "", "nothing: no more than a decade is lost or gained", ())
    if flow.setting.steps < 20:
        return Verdict(*base, "", "give at least 20 steps", ())
    if flow.chain is None:
        return Verdict(*base, "", "measure the recurrent cell or stack by itself: only there can changes be tried", ())
    # Where others help hardly more, scaling the inputs is the gentlest change.
    tried = sorted(_trials(flow), key=lambda trial: abs(trial.decades) * (1 - LEAST * (trial.kind == "input weights")))
    before = abs(judged.decades)
    best = next((trial for trial in tried if trial.change[0] != "chrono"), None)  # which changes two things at once
    gain = before - abs(best.decades) if best else 0.0
    if best is None or not gain >= max(LEAST, LEAST * before if math.isfinite(before) else 0.0):
        return Verdict(*base, "", "none of the single changes that were tried helps much", tuple(tried))
    return Verdict(*base, best.kind, _remedy(best, tried), tuple(tried))


def _remedy(best: Trial, tried: list[Trial]) -> str:
    said = f"{best.label}: D = {best.decades:+.1f}"
    both = next((trial for trial in tried if trial.change[0] == "chrono"), None)
    if best.kind == "forget bias" and both is not None:
        said += f"; with the input gate closed as well (init='chrono'): D = {both.decades:+.1f}"
    return said


def _trials(flow: GradientFlow) -> Iterator[Trial]:
    assert flow.chain is not None
    steps = min(flow.setting.steps, LONGEST)
    inputs, state = flow.inputs[-steps:], flow.chain.states[flow.setting.steps - steps]
    for kind, name, value in _suspects(flow):
        try:
            twin = changed(flow.model, flow.chain, name, value)
            other = remeasure(flow, twin, inputs, tuple(map(Tensor, state)), light=True)
        except (GradientError, ValueError, TypeError):  # not finite, or nothing here to change
            continue
        decades = other.judgement.decades
        if not math.isnan(decades):
            yield Trial(kind, (name, value), decades * flow.setting.steps / steps)


def _suspects(flow: GradientFlow) -> Iterator[tuple[str, str, Any]]:
    """(kind of cause, change, value), whatever may apply to this network."""
    assert flow.chain is not None
    cells = list(getattr(flow.model, "_cells", {}).values()) or [flow.model]
    cell, lost, steps = cells[0], flow.decades_lost, flow.setting.steps
    yield from _scales(flow, cell, lost)
    open_bias = -math.log(10 ** (1 / steps) - 1)  # σ(b)^T = 1/10: one decade over the sequence
    if isinstance(cell, LSTMCell):
        if cell.forget_gate:
            yield from (("forget bias", "forget_bias", b) for b in (open_bias, 0.0)[: 1 + (lost < 0)])
            yield "forget bias", "chrono", steps
        yield "input bias", "input_bias", -open_bias
    elif isinstance(cell, GRUCell):
        yield from (("update bias", "update_bias", b) for b in (open_bias, 0.0)[: 1 + (lost < 0)])
    elif isinstance(cell, RNNCell):
        others = {"sigmoid": ("tanh", "relu"), "tanh": ("relu",), "relu": ("tanh",), "identity": ("tanh",)}
        yield from (("activation", "nonlinearity", phi) for phi in others[cell.nonlinearity])
        if np.any([np.any(raw != 0) for raw in (np.asarray(cell.bias_ih.data), np.asarray(cell.bias_hh.data))]):
            yield "bias", "bias", 0.0
    if any(a.dead > 0 for a in flow.activations.values()):
        yield "dead units", "revive", True


def _scales(flow: GradientFlow, cell: Any, lost: float) -> Iterator[tuple[str, str, Any]]:
    """Weights by the factor that would end the decay if nothing else changed, not above the usual gain."""
    weights: Mapping[str, Tensor] = recurrent_weights(flow.model, flow.chain)
    radii = [_radius(np.asarray(w.data, np.float64)) for w in weights.values()]
    radius = max(radii, default=0.0)
    if radii and radius == 0.0:  # nothing to scale
        yield "recurrent weights", "weight_identity", 1.0
    neutral = 10.0**-flow.slope if math.isfinite(flow.slope) else 1.0
    limit = GAIN.get(getattr(cell, "nonlinearity", ""), math.inf) / radius if radius > 0 else 1.0
    factor = min(neutral, max(limit, 1.0)) if neutral > 1 else neutral
    if abs(factor - 1) > 0.01:
        yield "recurrent weights", "weight_scale", factor
    if isinstance(cell, (LSTMCell, GRUCell)) and weights:
        rms = math.sqrt(float(np.mean([np.square(np.asarray(w.data, np.float64)).mean() for w in weights.values()])))
        usual = 1 / math.sqrt(3 * cell.hidden_size)  # of U(-1/√H, 1/√H)
        if rms > 1.5 * usual:
            yield "recurrent weights", "weight_scale", usual / rms
    if isinstance(cell, (RNNCell, LSTMCell, GRUCell)) and lost > 0:
        yield "input weights", "input_scale", _quiet(flow)


def _quiet(flow: GradientFlow) -> float:
    """The factor with which the inputs move the first pre-activations by 0.3, where tanh′ is 0.9; at most 1/10."""
    weight = next(iter(input_weights(flow.model).values()), None)
    if weight is None:
        return 0.1
    drive = flow.inputs.astype(np.float64) @ np.asarray(weight.data, np.float64).T
    rms = math.sqrt(float(np.square(drive).mean()))
    return min(0.1, 0.3 / rms) if rms > 0 else 0.1


def _radius(weight: Array) -> float:
    """The largest |eigenvalue| of a square block; of several gates the largest."""
    if weight.ndim != 2 or weight.shape[0] % weight.shape[1]:
        return float(np.abs(weight).max(initial=0.0))
    blocks = weight.reshape(-1, weight.shape[1], weight.shape[1])
    return max(float(np.abs(np.linalg.eigvals(block)).max()) for block in blocks)

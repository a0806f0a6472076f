"""The report as plain data: every number, and all that is needed to measure it again."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

import numpy as np

from ..norms import json_ready
from ..tensor import Tensor
from .experiment import Experiment, name_of
from .flow import Flow


def record(flow: Flow) -> dict[str, Any]:
    """A report as JSON has it; numbers that are not finite are strings."""
    found, weights = flow.verdict, {}
    verdict = {"decades_lost": found.decades, "healthy_up_to": found.reach, "cause": found.cause, "try": found.remedy}
    names = ("word", "level", "lag", "zero_lag", "default", "reason", "about", "end")
    verdict |= {name: getattr(found, name) for name in names} | {"rounded": flow.rounded}
    verdict["causes"] = {name: trial.after for name, trial in found.undone.items()}
    verdict["trials"] = [{"label": t.label, "heals": t.heals} | json_ready(t) for t in found.trials]
    if flow.by_lag is not None:
        for name in flow.by_lag.names:
            beyond = {edge: flow.by_lag.share_beyond(name, edge) for edge in flow.by_lag.edges}
            weights[name] = {"log10_norm": flow.by_lag.log_norm(name), "share_beyond_lag": beyond}
    lanes = [
        {"slope": lane.line.slope, "half_life": lane.line.half_life} | json_ready(lane) | json_ready(lane.line)
        for lane in flow.lanes.values()
    ]
    data: dict[str, Any] = json_ready(
        {
            "setting": flow.setting,
            "verdict": verdict,
            "ends": flow.ends,
            "lanes": lanes,
            "shares": [*flow.shares.values()],
            "activations": [*flow.activations.values()],
            "weights_by_lag": weights,
            "theory": [{name: getattr(line, name) for name in ("name", "kind", "slope")} for line in flow.theory],
            "measured": measured(flow.experiment) | {"trained": flow.trained, **flow.about},
        }
    )
    return data


def measured(experiment: Experiment) -> dict[str, Any]:
    """What was measured, so that somebody else can tell whether they measure the same."""
    versions = {name: version(name) for name in ("tinygrad-rnn", "numpy")} | {"python": platform.python_version()}
    found = {name: getattr(experiment, name) for name in ("lag", "read", "lengths", "v")}
    found |= {"versions": versions, "loss": experiment.describe()}
    if isinstance(experiment.model, Tensor):
        return found
    try:
        inputs = np.asarray(experiment.inputs)
    except ValueError:  # several arrays, of which a Module makes what it likes
        inputs = np.concatenate([np.ravel(part) for part in experiment.inputs])
    parameters = {name: np.asarray(p.data) for name, p in experiment.model.parameters().items()}
    data = {"shape": inputs.shape, "mean": inputs.mean(), "sd": inputs.std(), "sha256": digest({"inputs": inputs})}
    weights = {"sha256": digest(parameters), "shapes": {name: a.shape for name, a in parameters.items()}}
    return found | {"model": name_of(experiment.model), "weights": weights, "inputs": data}


def digest(arrays: Mapping[str, Any]) -> str:
    """SHA-256 of arrays with their names, shapes and types, the same on every machine."""
    found = hashlib.sha256()
    for name, array in arrays.items():
        little = array.astype(array.dtype.newbyteorder("<"))
        found.update(f"{name} {little.shape} {little.dtype.str}\n".encode() + little.tobytes())
    return found.hexdigest()

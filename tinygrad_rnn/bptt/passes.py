"""All rewrites by name, in the order in which they are applied."""

from __future__ import annotations

from collections.abc import Callable

from .gates import merge, one_tanh, tiles
from .products import factor, join, split
from .rewrites import dead_code, only_last, regroup, share
from .step import Step

STEP_REWRITES: dict[str, Callable[[Step], None]] = {
    "dead_code": dead_code,
    "share": share,
    "only_last": only_last,
    "tiles": tiles,
    "split": split,
    "join": join,
    "merge": merge,
    "one_tanh": one_tanh,
    "factor": factor,
    "regroup": regroup,
}
"""Those that change equations."""

REWRITES: tuple[str, ...] = (*STEP_REWRITES, "hoist_inputs", "hoist_slopes", "batch_weights", "buffers")
"""Every rewrite; the last four decide when and where something is computed."""

"""All rewrites by name, in the order in which they are applied."""

from __future__ import annotations

from .gates import merge, one_tanh, tiles
from .products import factor, join, split
from .rewrites import dead_code, only_last, regroup, share

_ALL = (dead_code, share, only_last, tiles, split, join, merge, one_tanh, factor, regroup)
STEP_REWRITES = {rewrite.__name__: rewrite for rewrite in _ALL}
"""Those that change equations."""

REWRITES: tuple[str, ...] = (*STEP_REWRITES, "hoist_inputs", "hoist_slopes", "batch_weights", "buffers", "contiguous")
"""Every rewrite; the last five decide when and where something is computed."""

SAVE_CALLS, LARGE = {"merge", "one_tanh", "hoist_inputs"}, 1 << 14
"""Beside so many bytes of a part of the state a call costs little: these do not pay. Nor do copies of such weights."""

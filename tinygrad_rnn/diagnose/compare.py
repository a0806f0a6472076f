"""Several networks under the same inputs and the same loss: one chart, one scale, one table."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..files import write_whole
from .report import GradientFlow

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class Comparison:
    """Reports beside each other.

    Attributes
    ----------
    flows : dict of str to GradientFlow

    Raises
    ------
    ValueError
        If there is nothing to compare.
    """

    def __init__(self, flows: Mapping[str, GradientFlow]) -> None:
        if not flows:
            raise ValueError("nothing to compare")
        self.flows = dict(flows)

    def __getitem__(self, name: str) -> GradientFlow:
        """The report of one of them."""
        return self.flows[name]

    def table(self) -> list[dict[str, Any]]:
        """A row for each network: slope of ∂L/∂h, its spread, D, half-life, carried share at lag 10, the word."""
        rows = []
        for name, flow in self.flows.items():
            share = next(iter(flow.shares.values()), None)
            at = min(10, flow.setting.steps)
            rows.append(
                {
                    "network": name,
                    "steps": flow.setting.steps,
                    "slope": flow.slope,
                    "spread": flow.main.line.spread,
                    "decades lost": flow.decades_lost,
                    "half-life": flow.half_life,
                    "carried at lag 10": float(share.mean[at]) if share else None,
                    "verdict": flow.word,
                }
            )
        return rows

    def text(self) -> str:
        """The table in aligned columns."""
        from .words import comparison

        return comparison(self)

    __str__ = text

    def __repr__(self) -> str:
        return f"Comparison({', '.join(f'{name}: {flow.word}' for name, flow in self.flows.items())})"

    def to_json(self, path: str | os.PathLike[str] | None = None) -> str:
        """All reports as JSON; with a path, also written there, whole or not at all."""
        data = {name: flow.to_dict() for name, flow in self.flows.items()}
        text = json.dumps(data, ensure_ascii=False, allow_nan=False, indent=1) + "\n"
        if path is not None:
            write_whole(path, text)
        return text

    def plot(self, axes: Axes | None = None) -> Axes:
        """Draw all on one scale; needs ``tinygrad-rnn[plot]``."""
        from .charts import plot_comparison

        return plot_comparison(self, axes)

    def save(self, path: str | os.PathLike[str], title: str | None = None) -> None:
        """Write the chart; the suffix decides the format (.svg, .png, .pdf). Needs ``tinygrad-rnn[plot]``."""
        from .charts import save_comparison

        save_comparison(self, path, title)

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        from .charts import bundle, comparison_figure

        return bundle(self.text(), lambda: comparison_figure(self))


def compare(models: Mapping[str, Any], inputs: Any = None, loss: Any = "last", **options: Any) -> Comparison:
    """Measure several networks on the same inputs, with the same loss and the same v.

    Parameters
    ----------
    models : mapping of str to whatever `gradient_flow` takes, or GradientFlow
    inputs, loss, **options
        As `gradient_flow`.

    Returns
    -------
    Comparison

    Examples
    --------
    >>> import numpy as np
    >>> import tinygrad_rnn as tg
    >>> from tinygrad_rnn.diagnose import compare
    >>> x = np.random.default_rng(0).normal(size=(60, 2, 4))
    >>> compare({"lstm": tg.LSTMCell(4, 16, rng=0), "chrono": tg.LSTMCell(4, 16, init="chrono", rng=0)}, x)
    Comparison(lstm: vanishing, chrono: healthy)
    """
    from .flow import gradient_flow

    measured = {
        str(name): model if isinstance(model, GradientFlow) else gradient_flow(model, inputs, loss, **options)
        for name, model in models.items()
    }
    return Comparison(measured)

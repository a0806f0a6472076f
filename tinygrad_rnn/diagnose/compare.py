"""Several networks under the same inputs and the same loss: one chart, one scale, one table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .charts import comparison_figure
from .flow import Flow
from .record import record
from .shown import Shown
from .words import comparison

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Comparison(Shown):
    """Reports beside each other.

    Attributes
    ----------
    flows : dict of str to GradientFlow

    Raises
    ------
    ValueError
        If there is nothing to compare.
    """

    def __init__(self, flows: Mapping[str, Flow]) -> None:
        if not flows:
            raise ValueError("nothing to compare")
        self.flows = dict(flows)

    def __getitem__(self, name: str) -> Flow:
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
        return comparison(self.table())

    def __repr__(self) -> str:
        return f"Comparison({', '.join(f'{name}: {flow.word}' for name, flow in self.flows.items())})"

    def to_dict(self) -> dict[str, Any]:
        """All reports as plain data, by their names."""
        return {name: record(flow) for name, flow in self.flows.items()}

    def _figure(self) -> Figure:
        return comparison_figure(self.flows)

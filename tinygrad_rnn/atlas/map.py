"""The map: where the gradient vanishes and where it explodes, as a map with the theory's boundary on it.

After this file the reader knows which scale of the weights divides the two, by theory, for each activation; whether
that number is exact, an estimate or a bound; and how to read a map: colour says which way, the number how fast.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from os import PathLike
from typing import TYPE_CHECKING, Any

import numpy as np

from ..diagnose.theory import mean_field
from ..draw.style import clean
from ..figure import check_format, new_figure, plain, save_figure
from .networks import DEFAULTS, settings_of
from .table import Scalar, Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LINES = {"exact": "-", "estimate": "--", "bound": ":"}
HALVING = math.log10(2.0)
"""The strongest colours: a gradient that halves, or doubles, with every step."""


@dataclass(frozen=True)
class Boundary:
    """A scale of the recurrent weights at which theory puts the change from vanishing to exploding.

    Attributes
    ----------
    scale : float
    kind : {"exact", "estimate", "bound"}
        "estimate": mean field, for wide networks; "bound": below it nothing can explode, above it it may.
    """

    scale: float
    kind: str


def mean_field_slope(settings: Mapping[str, Scalar]) -> float:
    """Decades per step of a wide RNN with random weights, as `mean_field` estimates it.

    Parameters
    ----------
    settings : mapping
        As for `network`.

    Examples
    --------
    >>> from tinygrad_rnn.atlas.map import mean_field_slope
    >>> round(mean_field_slope({"nonlinearity": "tanh", "weights": "gaussian", "scale": 1.5}), 3)
    -0.062
    """
    chosen = settings_of(settings)
    g, bias = chosen["scale"], chosen["bias"]
    centre = 0.5 if chosen["centred"] else 0.0
    drive = chosen["input_scale"] ** 2
    return math.log10(mean_field(chosen["nonlinearity"], g, drive, mean=bias, centre=centre))


def boundaries(settings: Mapping[str, Scalar]) -> list[Boundary]:
    """Where theory puts the boundary of a simple RNN; for gated cells it has none to offer.

    Parameters
    ----------
    settings : mapping
        As for `network`, without ``scale``.

    Returns
    -------
    list of Boundary
        Identity: 1, exact for orthogonal weights. ReLU: √2, an estimate. Tanh: where `mean_field_slope` is zero.
        Sigmoid: the bound 1/γ = 4 on the largest singular value of W (Pascanu et al. 2013), which for Gaussian weights
        is 2 g, and mean field.

    Examples
    --------
    >>> from tinygrad_rnn.atlas.map import boundaries
    >>> boundaries({"nonlinearity": "identity"}), round(boundaries({"nonlinearity": "relu"})[0].scale, 3)
    ([Boundary(scale=1.0, kind='exact')], 1.414)
    """
    chosen = settings_of(settings)
    if chosen["cell"] != "rnn" or chosen["weights"] in ("uniform", "identity"):
        return []
    if chosen["nonlinearity"] == "identity":
        return [Boundary(1.0, "exact" if chosen["weights"] == "orthogonal" else "estimate")]
    found = []
    if chosen["nonlinearity"] == "sigmoid" and chosen["weights"] != "radius":
        found.append(Boundary(4.0 if chosen["weights"] == "orthogonal" else 2.0, "bound"))
    low, high = 0.01, 100.0
    if mean_field_slope(chosen | {"scale": low}) < 0 < mean_field_slope(chosen | {"scale": high}):
        for _ in range(30):
            middle = math.sqrt(low * high)
            below = mean_field_slope(chosen | {"scale": middle}) < 0
            low, high = (middle, high) if below else (low, middle)
        found.append(Boundary(low, "estimate"))
    return found


def plot_atlas(table: Table, *, x: str = "scale", y: str = "nonlinearity", value: str = "slope") -> Axes:
    """Draw a map of one measured value, its median over everything but two settings.

    Parameters
    ----------
    table : Table
        Of a `sweep`.
    x, y : str
        The settings along the axes; numbers are sorted. The boundary is drawn where x is ``scale``.
    value : str
        Negative where the gradient vanishes.

    Returns
    -------
    Axes

    Raises
    ------
    ImportError
        Naming the remedy, if matplotlib is not installed.
    ValueError
        If the table is empty or has no such columns.
    """
    if missing := [name for name in (x, y, value) if name not in table.columns]:
        raise ValueError(f"the table has no column {', '.join(missing)}; there are {', '.join(table.columns)}")
    rows, columns, matrix = table.pivot(y, x, value)
    axes = new_figure(*_size(rows, columns)).add_subplot()
    shown = axes.imshow(np.clip(matrix, -HALVING, HALVING), cmap="PuOr_r", vmin=-HALVING, vmax=HALVING, aspect="auto")
    axes.set_xticks(range(len(columns)), [plain(_text(c)) for c in columns])
    axes.set_yticks(range(len(rows)), [plain(_text(r)) for r in rows])
    axes.set_xlabel(LABELS.get(x, x.replace("_", " ")))
    axes.set_ylabel(LABELS.get(y, y.replace("_", " ")))
    axes.tick_params(length=0)
    axes.set_xticks(np.arange(len(columns) - 1) + 0.5, minor=True)
    axes.set_yticks(np.arange(len(rows) - 1) + 0.5, minor=True)
    axes.grid(which="minor", color="white", linewidth=1.5)
    _numbers(axes, shown, matrix)
    bar = axes.figure.colorbar(shown, ax=axes, extend="both", pad=0.02)
    bar.set_ticks([-HALVING, 0.0, HALVING], labels=["halves", "stays", "doubles"])
    bar.set_label("gradient, with every step back")
    if x == "scale":
        _draw_boundaries(axes, table, y, rows, columns)
    return axes


def draw_atlas(
    table: Table,
    path: str | PathLike[str],
    *,
    x: str = "scale",
    y: str = "nonlinearity",
    value: str = "slope",
    title: str | None = None,
) -> None:
    """Write the map of `plot_atlas`; the suffix decides the format (.svg, .png, .pdf).

    Parameters
    ----------
    table : Table
    path : path
    x, y, value : str
    title : str, optional
        Default: what is measured, and every setting that is the same everywhere.
    """
    check_format(path)
    axes = plot_atlas(table, x=x, y=y, value=value)
    figure = axes.get_figure(root=True)
    assert figure is not None
    said = title if title is not None else "At initialisation: decades per step that the gradient gains or loses"
    axes.set_title(plain(clean(said, 200)) + "\n" + plain(_settings(table, (x, y))), fontsize="medium", loc="left")
    save_figure(figure, path)


LABELS = {"scale": "scale g of the recurrent weights", "nonlinearity": "", "steps": "steps T", "hidden": "hidden units"}


def _size(rows: list[Any], columns: list[Any]) -> tuple[float, float]:
    return min(max(7.5, 3.2 + 0.75 * len(columns)), 16.0), min(max(3.3, 1.9 + 0.5 * len(rows)), 14.0)


def _text(label: Scalar) -> str:
    return f"{label:.3g}" if isinstance(label, float) else clean(str(label), 24)


def _numbers(axes: Axes, shown: Any, matrix: Any) -> None:
    """The values in the cells, where there is room for them; a dash where there is none to show."""
    height, width = matrix.shape
    figure = axes.get_figure(root=True)
    assert figure is not None
    if 0.8 * figure.get_figwidth() / width < 0.48 or 0.8 * figure.get_figheight() / height < 0.2:
        return
    for i, j in np.ndindex(matrix.shape):
        number = matrix[i, j]
        dark = abs(number) > 0.6 * HALVING
        text = "–" if math.isnan(number) else f"{number:+.3f}".replace("-", "−")
        # On a patch of the cell's own colour, so that a boundary passes behind the number.
        patch = {"facecolor": shown.to_rgba(number), "edgecolor": "none", "pad": 1.5} if text != "–" else None
        colour = "white" if dark else "#1f2328"
        axes.text(j, i, text, ha="center", va="center", fontsize=8.5, color=colour, bbox=patch, zorder=5)


def _draw_boundaries(axes: Axes, table: Table, y: str, rows: list[Any], columns: list[Any]) -> None:
    """One line a row and kind, and beside the row what it is."""
    common = {name: table[name][0] for name in table.columns if name in DEFAULTS and len(table.values(name)) == 1}
    notes, kinds = [], []
    for i, row in enumerate(rows):
        found = boundaries({**common, y: row}) if y in DEFAULTS else []
        notes.append(", ".join(f"{boundary.scale:.3g} ({boundary.kind})" for boundary in found))
        for boundary in found:
            if columns[0] <= boundary.scale <= columns[-1]:
                at, style = float(np.interp(boundary.scale, columns, range(len(columns)))), LINES[boundary.kind]
                axes.plot([at, at], [i - 0.5, i + 0.5], color="white", linewidth=4.0, solid_capstyle="butt")
                axes.plot([at, at], [i - 0.5, i + 0.5], style, color="#1f2328", linewidth=2.0)
                kinds.append(boundary.kind)
    if any(notes):
        right = axes.secondary_yaxis("right")
        right.set_yticks(range(len(rows)), notes, fontsize="small")
        right.tick_params(length=0)
        right.set_ylabel("theory: the gradient keeps its size at g =", fontsize="small")
        for kind in dict.fromkeys(kinds):
            axes.plot([], [], LINES[kind], color="#1f2328", linewidth=2.0, label=MEANINGS[kind])
        if kinds:
            axes.figure.legend(loc="outside lower left", ncols=3, frameon=False, fontsize="small")


MEANINGS = {
    "exact": "boundary, exact",
    "estimate": "boundary, estimate (mean field)",
    "bound": "bound: nothing explodes to the left of it",
}


def _settings(table: Table, varied: tuple[str, ...]) -> str:
    """What is the same in all rows, in words."""
    named = {"cell": "{}", "weights": "{} weights", "hidden": "{} units", "steps": "T = {}"}
    said = []
    for name, default in DEFAULTS.items():
        if name in (*varied, "seed", "features"):
            continue
        values = table.values(name) if name in table.columns else [default]
        if len(values) == 1 and (name in named or values[0] != default):
            said.append(named.get(name, name.replace("_", " ") + " {}").format(_text(values[0])))
    seeds = len(table.values("seed")) if "seed" in table.columns else 1
    return ", ".join(said) + (f"; median of {seeds} seeds" if seeds > 1 else "; one seed")

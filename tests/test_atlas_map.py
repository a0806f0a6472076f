"""The map as it is asked of matplotlib, which need not be there: its cells, its boundaries, its heading."""

from unittest.mock import MagicMock

import numpy as np
import pytest

from tinygrad_rnn.atlas import Table
from tinygrad_rnn.atlas.map import boundaries, draw_atlas, plot_atlas


def mapped(monkeypatch, table, **options):
    """What a map asks of matplotlib, which need not be there: axes that note how they are called, and their figure."""
    figure = MagicMock()
    axes = figure.add_subplot.return_value
    axes.figure = axes.get_figure.return_value = figure
    figure.get_figwidth.return_value, figure.get_figheight.return_value = 9.0, 5.0
    monkeypatch.setattr("tinygrad_rnn.atlas.map.new_figure", lambda *size: figure)
    assert plot_atlas(table, **options) is axes
    return axes, figure


def test_every_cell_of_a_map_has_the_number_of_its_own_row_and_column(monkeypatch):
    slopes = {("tanh", 0.5): -0.4, ("tanh", 1.0): -0.2, ("tanh", 2.0): 0.01, ("relu", 0.5): -0.3, ("relu", 1.0): -0.15}
    table = Table.of([{"nonlinearity": n, "scale": g, "seed": 0, "slope": slope} for (n, g), slope in slopes.items()])
    axes, figure = mapped(monkeypatch, table)
    (columns, names), (between,) = (call.args for call in axes.set_xticks.call_args_list)
    rows, kinds = axes.set_yticks.call_args_list[0].args
    assert [*columns] == [0, 1, 2] and names == ["0.5", "1", "2"] and [*rows] == [0, 1]
    assert [*between] == [0.5, 1.5] and [*axes.set_yticks.call_args_list[1].args[0]] == [0.5]
    shades = axes.imshow.call_args.args[0]
    told = {(call.args[1], call.args[0]): call.args[2] for call in axes.text.call_args_list}
    assert len(told) == 6
    for (i, j), text in told.items():
        slope = slopes.get((kinds[i], float(names[j])))
        assert text == ("–" if slope is None else f"{slope:+.3f}".replace("-", "−"))
        assert slope is None or shades[i, j] == pytest.approx(np.clip(slope, -np.log10(2), np.log10(2)))
    limits = axes.imshow.call_args.kwargs
    assert limits["vmax"] == -limits["vmin"] == pytest.approx(np.log10(2))
    bar = figure.colorbar.return_value.set_ticks.call_args
    assert [*bar.args[0]] == pytest.approx([-np.log10(2), 0.0, np.log10(2)])
    assert bar.kwargs["labels"] == ["halves", "stays", "doubles"]
    assert axes.set_xlabel.call_args.args == ("scale g of the recurrent weights",)
    # The boundary of each row stands where theory has it, between the columns that it lies between.
    at = [call.args[0][0] for call in axes.plot.call_args_list if len(call.args) == 2]
    assert at == pytest.approx([1 + (boundaries({"nonlinearity": kind})[0].scale - 1.0) for kind in kinds], abs=1e-6)
    where, notes = axes.secondary_yaxis.return_value.set_yticks.call_args.args
    assert [*where] == [0, 1]
    assert notes == [f"{boundaries({'nonlinearity': kind})[0].scale:.3g} (estimate)" for kind in kinds]


def test_the_heading_of_a_map_says_what_is_the_same_everywhere(monkeypatch):
    rows = [
        {"cell": "rnn", "nonlinearity": n, "scale": g, "hidden": 7, "steps": 20, "seed": seed, "slope": 0.0}
        for n in ("tanh", "relu")
        for g in (0.5, 2.0)
        for seed in range(3)
    ]
    axes, _ = mapped(monkeypatch, Table.of(rows))
    monkeypatch.setattr("tinygrad_rnn.atlas.map.save_figure", lambda figure, path: None)
    draw_atlas(Table.of(rows), "map.svg")
    (heading,) = axes.set_title.call_args.args
    assert heading.startswith("At initialisation: decades per step that the gradient gains or loses\nrnn, ")
    assert "7 units, T = 20" in heading and heading.endswith("; median of 3 seeds")
    assert axes.set_title.call_args.kwargs["loc"] == "left"
    draw_atlas(Table.of([row for row in rows if row["seed"] == 1]), "map.svg", title="Mine")
    assert axes.set_title.call_args.args[0].startswith("Mine\n") and axes.set_title.call_args.args[0].endswith(
        "; one seed"
    )

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
    monkeypatch.setattr("tinygrad_rnn.atlas.map.new_figure", lambda *size: figure.size(*size) and figure)
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


def table_of(rows=("tanh", "relu"), columns=(0.5, 1.0, 2.0), slope=0.1, **more):
    """A table with the same slope in every cell, or with a slope for each."""
    each = slope if callable(slope) else lambda n, g: slope
    return Table.of([{"nonlinearity": n, "scale": g, "slope": each(n, g), **more} for n in rows for g in columns])


def test_a_boundary_is_a_dark_line_on_a_white_one_from_edge_to_edge_of_its_row(monkeypatch):
    axes, figure = mapped(monkeypatch, table_of(("sigmoid", "relu"), (0.5, 1.0, 2.5, 16.0), weights="gaussian"))
    lines = [call for call in axes.plot.call_args_list if call.args[0]]
    told = [
        boundary
        for kind in ("sigmoid", "relu")
        for boundary in boundaries({"nonlinearity": kind, "weights": "gaussian"})
    ]
    assert [boundary.kind for boundary in told] == ["bound", "estimate", "estimate"]
    assert len(lines) == 2 * len(told)
    for white, dark, row, boundary in zip(lines[::2], lines[1::2], (0, 0, 1), told, strict=True):
        x = np.interp(boundary.scale, [0.5, 1.0, 2.5, 16.0], [0, 1, 2, 3])
        for line in (white, dark):
            assert [*map(float, line.args[0])] == pytest.approx([x, x]) and line.args[1] == [row - 0.5, row + 0.5]
        assert white.kwargs == {"color": "white", "linewidth": 4.0, "solid_capstyle": "butt"}
        assert dark.args[2] == {"bound": ":", "estimate": "--"}[boundary.kind]
        assert dark.kwargs["color"] == "#1f2328" and dark.kwargs["linewidth"] < white.kwargs["linewidth"]
    samples = [call for call in axes.plot.call_args_list if not call.args[0]]
    assert [(call.args[2], call.kwargs["label"]) for call in samples] == [
        (":", "bound: nothing explodes to the left of it"),
        ("--", "boundary, estimate (mean field)"),
    ]
    assert all(call.kwargs["color"] == "#1f2328" and call.args[1] == [] for call in samples)
    assert figure.legend.call_args.kwargs["loc"] == "outside lower left", "beside the map, not on it"
    assert figure.legend.call_args.kwargs["fontsize"] == "small"
    right = axes.secondary_yaxis.call_args
    assert right.args == ("right",)
    assert axes.secondary_yaxis.return_value.set_yticks.call_args.kwargs == {"fontsize": "small"}
    label = axes.secondary_yaxis.return_value.set_ylabel.call_args
    assert label.args == ("theory: the gradient keeps its size at g =",)


def test_a_boundary_outside_the_map_is_told_and_not_drawn(monkeypatch):
    axes, figure = mapped(monkeypatch, table_of(("relu",), (2.0, 3.0)))
    assert not axes.plot.called and not figure.legend.called
    assert axes.secondary_yaxis.return_value.set_yticks.call_args.args[1] == ["1.41 (estimate)"]
    exact = {"scale": boundaries({"nonlinearity": "identity", "weights": "orthogonal"})[0].scale}
    assert exact == {"scale": 1.0}
    axes, _ = mapped(monkeypatch, table_of(("identity",), (1.0, 3.0), weights="orthogonal"))
    assert [call.args[2] for call in axes.plot.call_args_list if len(call.args) == 3 and call.args[0]] == ["-"]


def test_only_along_the_scale_there_is_a_boundary(monkeypatch):
    rows = [{"steps": t, "hidden": n, "slope": 0.0} for t in (10, 20) for n in (4, 8)]
    axes, _ = mapped(monkeypatch, Table.of(rows), x="steps", y="hidden")
    assert not axes.plot.called and not axes.secondary_yaxis.called
    assert axes.set_xlabel.call_args.args == ("steps T",) and axes.set_ylabel.call_args.args == ("hidden units",)
    assert axes.set_xticks.call_args_list[0].args[1] == ["10", "20"]
    rows = [{"input_scale": s, "forget_bias": b, "slope": 0.0} for s in (0.5, 1.0) for b in (0.0, 1.0)]
    axes, _ = mapped(monkeypatch, Table.of(rows), x="input_scale", y="forget_bias")
    assert (axes.set_xlabel.call_args.args, axes.set_ylabel.call_args.args) == (("input scale",), ("forget bias",))


def test_the_cells_of_a_map_are_told_apart(monkeypatch):
    slopes = {0.5: 0.01, 1.0: 0.15, 2.0: 0.2, 3.0: -0.25, 4.0: float("nan")}
    axes, figure = mapped(monkeypatch, table_of(("tanh",), tuple(slopes), lambda n, g: slopes[g]))
    shades = axes.imshow.call_args
    assert shades.kwargs["cmap"] == "PuOr_r" and shades.kwargs["aspect"] == "auto"
    axes.grid.assert_called_once_with(which="minor", color="white", linewidth=1.5)
    assert [call.kwargs.get("minor", False) for call in axes.set_xticks.call_args_list] == [False, True]
    assert [call.kwargs.get("minor", False) for call in axes.set_yticks.call_args_list] == [False, True]
    assert axes.tick_params.call_args.kwargs == {"length": 0}
    numbers = {call.args[2]: call for call in axes.text.call_args_list}
    assert [*numbers] == ["+0.010", "+0.150", "+0.200", "−0.250", "–"]
    inks = {text: call.kwargs["color"] for text, call in numbers.items()}
    assert inks == dict.fromkeys(("+0.010", "+0.150", "–"), "#1f2328") | dict.fromkeys(("+0.200", "−0.250"), "white")
    ground = axes.imshow.return_value.to_rgba
    assert [call.args[0] for call in ground.call_args_list if call.args[0] in slopes.values()] == [
        0.01,
        0.15,
        0.2,
        -0.25,
    ]
    for text, call in numbers.items():
        assert (call.args[1], call.kwargs["ha"], call.kwargs["va"]) == (0, "center", "center")
        assert call.kwargs["zorder"] > 2, "above the lines of the boundaries"
        patch = call.kwargs["bbox"]
        assert patch is None if text == "–" else patch["facecolor"] is ground.return_value
        assert patch is None or (patch["edgecolor"], patch["pad"]) == ("none", 1.5)
    assert figure.colorbar.call_args.args == (axes.imshow.return_value,)
    assert figure.colorbar.call_args.kwargs["ax"] is axes and figure.colorbar.call_args.kwargs["extend"] == "both"
    assert figure.colorbar.return_value.set_label.call_args.args == ("gradient, with every step back",)


def test_numbers_stand_only_where_they_have_room(monkeypatch):
    def told(rows, columns):
        axes, _ = mapped(
            monkeypatch, table_of([f"n{i}" for i in range(rows)], tuple(range(1, columns + 1))), y="nonlinearity"
        )
        return axes.text.call_count

    monkeypatch.setattr("tinygrad_rnn.atlas.map.boundaries", lambda settings: [])
    # The figure that is pretended to be there is 9 by 5 inches: 0.48 inches a column are 15, 0.2 a row are 20.
    assert told(1, 15) == 15 and told(1, 16) == 0
    assert told(20, 1) == 20 and told(21, 1) == 0


def test_a_map_grows_with_its_cells_up_to_a_page(monkeypatch):
    monkeypatch.setattr("tinygrad_rnn.atlas.map.boundaries", lambda settings: [])
    sizes = {}
    for rows, columns in [(1, 1), (4, 8), (40, 40)]:
        table = table_of([f"n{i}" for i in range(rows)], tuple(range(1, columns + 1)))
        _, figure = mapped(monkeypatch, table)
        sizes[rows, columns] = figure.size.call_args.args
    assert sizes == {(1, 1): (7.5, 3.3), (4, 8): pytest.approx((9.2, 3.9)), (40, 40): (16.0, 14.0)}


def test_a_column_that_is_not_there_is_named(monkeypatch):
    for option in ("x", "y", "value"):
        with pytest.raises(ValueError, match="the table has no column nothing; there are nonlinearity, scale, slope"):
            plot_atlas(table_of(), **{option: "nothing"})


def test_a_map_of_another_value_has_its_numbers_and_its_axes(monkeypatch):
    rows = [{"cell": c, "steps": t, "half": 0.01 * t, "slope": 9.0} for c in ("rnn", "lstm") for t in (10, 20)]
    asked = []
    monkeypatch.setattr("tinygrad_rnn.atlas.map.save_figure", lambda figure, path: asked.append((figure, path)))
    axes, figure = mapped(monkeypatch, Table.of(rows), x="steps", y="cell", value="half")
    assert [call.args[2] for call in axes.text.call_args_list] == ["+0.100", "+0.200"] * 2
    figure.reset_mock()
    draw_atlas(Table.of(rows), "map.png", x="steps", y="cell", value="half")
    assert [call.args[2] for call in axes.text.call_args_list][-4:] == ["+0.100", "+0.200"] * 2
    assert asked == [(figure, "map.png")] and axes.get_figure.call_args.kwargs == {"root": True}


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({}, "rnn, orthogonal weights, 64 units, T = 100; one seed"),
        ({"steps": 7, "hidden": 5}, "rnn, orthogonal weights, 5 units, T = 7; one seed"),
        ({"bias": 0.25, "input_scale": 2.0}, "bias 0.25"),
        ({"weights": "gaussian"}, "gaussian weights"),
    ],
)
def test_what_is_the_same_in_all_rows_stands_under_the_heading(monkeypatch, more, said):
    axes, _ = mapped(monkeypatch, table_of(**more))
    monkeypatch.setattr("tinygrad_rnn.atlas.map.save_figure", lambda figure, path: None)
    draw_atlas(table_of(**more), "map.svg", title="T")
    heading = axes.set_title.call_args.args[0].partition("\n")[2]
    assert said in heading and "nonlinearity" not in heading and "features" not in heading
    assert axes.set_title.call_args.kwargs["fontsize"] == "medium"
    varied = Table.of(
        [{"nonlinearity": "tanh", "scale": g, "steps": t, "slope": 0.0} for g in (1.0, 2.0) for t in (3, 4)]
    )
    draw_atlas(varied, "map.svg", title="x" * 300)
    first, _, second = axes.set_title.call_args.args[0].partition("\n")
    assert "T =" not in second and len(first) <= 201


def test_a_setting_along_an_axis_is_not_said_again_though_it_has_one_value(monkeypatch):
    monkeypatch.setattr("tinygrad_rnn.atlas.map.save_figure", lambda figure, path: None)
    rows = [{"nonlinearity": "relu", "scale": 2.0, "seed": seed, "slope": 0.0} for seed in (0, 1)]
    axes, _ = mapped(monkeypatch, Table.of(rows))
    for x, y in (("scale", "nonlinearity"), ("nonlinearity", "scale")):
        draw_atlas(Table.of(rows), "map.svg", x=x, y=y, title="T")
        said = axes.set_title.call_args.args[0]
        assert "scale" not in said and "relu" not in said and said.endswith("; median of 2 seeds")


def test_theory_has_no_boundary_for_weights_without_one():
    for settings in ({"weights": "identity"}, {"weights": "uniform"}, {"cell": "lstm"}, {"cell": "gru"}):
        assert boundaries(settings) == []
    (exact,), (estimate,) = (boundaries({"nonlinearity": "identity", "weights": w}) for w in ("orthogonal", "gaussian"))
    assert (exact.scale, exact.kind, estimate.scale, estimate.kind) == (1.0, "exact", 1.0, "estimate")

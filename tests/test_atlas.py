"""The map of vanishing and exploding: its measure, its theory, its picture, its command."""

import csv
import math
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from tinygrad_rnn.atlas import Table, grid, read_table, sweep
from tinygrad_rnn.atlas.map import HALVING, boundaries, draw_atlas, mean_field_slope, plot_atlas
from tinygrad_rnn.atlas.networks import network, slope_of
from tinygrad_rnn.cli import main
from tinygrad_rnn.cli.options import finite, several

SMALL = {"hidden": 32, "steps": 60}


# --- the measure ---


@pytest.mark.parametrize(
    "settings, expected, tolerance",
    [
        ({"nonlinearity": "identity", "scale": 1.5}, math.log10(1.5), 1e-9),
        ({"nonlinearity": "sigmoid", "scale": 1.0}, -0.686, 0.02),
        ({"nonlinearity": "tanh", "scale": 0.5, "weights": "gaussian"}, -0.469, 0.02),
        ({"nonlinearity": "tanh", "scale": 1.0}, -0.198, 0.02),
        ({"nonlinearity": "tanh", "scale": 1.0, "input_scale": 0.1}, -0.027, 0.02),
        ({"nonlinearity": "relu", "scale": 1.0}, -0.144, 0.04),
        ({"nonlinearity": "identity", "scale": 1.5, "weights": "radius"}, 0.172, 0.02),
        ({"nonlinearity": "sigmoid", "scale": 6.0, "input_scale": 0.01, "centred": True}, 0.0249, 0.01),
        ({"cell": "lstm", "forget_bias": 1.0}, -0.0685, 0.02),
        ({"cell": "lstm", "chrono": 100}, -0.0064, 0.003),
        ({"cell": "gru", "update_bias": 5.0}, -0.0029, 0.01),
    ],
)
def test_slopes_of_the_literature(settings, expected, tolerance):
    slopes = [slope_of({**settings, "seed": seed})["slope"] for seed in range(2)]
    assert np.mean(slopes) == pytest.approx(expected, abs=tolerance)


def test_decades_are_slope_times_steps():
    found = slope_of({**SMALL, "scale": 0.7})
    assert found["decades"] == pytest.approx(60 * found["slope"])


@pytest.mark.parametrize(
    "settings, reason",
    [
        ({"gain": 1}, "gain: no setting"),
        ({"cell": "esn"}, "one of 'rnn', 'lstm', 'gru'"),
        ({"weights": "zero"}, "one of"),
    ],
)
def test_unknown_settings(settings, reason):
    with pytest.raises(ValueError, match=reason):
        network(settings)


@pytest.mark.parametrize("kind, norm", [("orthogonal", 1.5), ("identity", 1.5)])
def test_weights_are_on_the_scale_that_is_stated(kind, norm):
    assert np.linalg.norm(network({"weights": kind, "scale": 1.5})[0].weight_hh.data, 2) == pytest.approx(norm)
    radius = network({"weights": "radius", "scale": 1.5})[0].weight_hh.data
    assert np.abs(np.linalg.eigvals(radius)).max() == pytest.approx(1.5)


# --- the theory ---


@pytest.mark.parametrize("settings", [{}, {"cell": "lstm"}, {"cell": "gru"}, {"cell": "lstm", "chrono": 20}], ids=str)
def test_the_seed_decides_about_every_weight_and_input(settings):
    def drawn(seed):
        cell, inputs = network({"hidden": 4, "steps": 3, "seed": seed, **settings})
        return [inputs, *(p.numpy() for name, p in cell.parameters().items() if name.startswith("weight"))]

    for one, again, other in zip(drawn(1), drawn(1), drawn(2), strict=True):
        assert np.array_equal(one, again) and not np.array_equal(one, other)


def test_mean_field():
    measured = [-0.4755, -0.2012, -0.0651, 0.0151, 0.1092]
    told = [mean_field_slope({"nonlinearity": "tanh", "scale": g}) for g in (0.5, 1.0, 1.5, 2.0, 3.0)]
    assert told == pytest.approx(measured, abs=0.012)
    linear = {"nonlinearity": "tanh", "scale": 0.8, "input_scale": 1e-4}
    assert mean_field_slope(linear) == pytest.approx(math.log10(0.8), abs=1e-6)


@pytest.mark.parametrize("nonlinearity, bias", [("tanh", 0.0), ("sigmoid", -1.0), ("relu", 0.5)])
def test_mean_field_is_what_a_wide_network_does(nonlinearity, bias):
    settings = {"nonlinearity": nonlinearity, "bias": bias, "scale": 0.9, "weights": "gaussian", "hidden": 256}
    measured = np.mean([slope_of({**settings, "steps": 40, "seed": seed})["slope"] for seed in range(2)])
    assert mean_field_slope(settings) == pytest.approx(measured, abs=0.03)


def test_boundaries():
    def of(**settings):
        return [(round(b.scale, 2), b.kind) for b in boundaries(settings)]

    assert of(nonlinearity="identity") == [(1.0, "exact")]
    assert of(nonlinearity="identity", weights="gaussian") == [(1.0, "estimate")]
    assert of(nonlinearity="relu") == [(1.41, "estimate")]
    assert of(nonlinearity="tanh") == [(1.86, "estimate")]
    assert of(nonlinearity="sigmoid", centred=True, input_scale=0.01) == [(4.0, "bound"), (4.11, "estimate")]
    assert of(nonlinearity="sigmoid", weights="gaussian")[0] == (2.0, "bound")
    assert of(cell="lstm") == of(weights="uniform") == []


@pytest.mark.parametrize("nonlinearity", ["identity", "relu", "tanh"])
def test_the_sign_changes_at_the_boundary(nonlinearity):
    (boundary,) = boundaries({"nonlinearity": nonlinearity})
    for factor in (0.8, 1.25):
        settings = {"nonlinearity": nonlinearity, "scale": factor * boundary.scale}
        slope = np.mean([slope_of({**settings, "seed": seed})["slope"] for seed in range(2)])
        assert (slope > 0) == (factor > 1)


# --- the picture ---


@pytest.fixture(scope="module")
def table():
    """Numbers of a formula, so that what is drawn is known: the slope is log10 g, but for one job that failed."""

    def measure(configuration):
        if configuration["scale"] == 2.0 and configuration["nonlinearity"] == "relu":
            raise ArithmeticError
        return {"slope": math.log10(configuration["scale"]) + 0.01 * (configuration["seed"] - 1)}

    return sweep(grid(nonlinearity=["relu", "identity"], scale=[2.0, 0.25, 1.0], seed=range(3)), measure)


def cells(axes):
    """The numbers in the cells, row by row, as they stand from left to right."""
    found = sorted((t.get_position()[::-1], t.get_text()) for t in axes.texts)
    return [text for _, text in found]


def test_cells_columns_and_colours(table):
    pytest.importorskip("matplotlib", reason="the extra [plot] is not installed")
    axes = plot_atlas(table)
    assert [t.get_text() for t in axes.get_xticklabels()] == ["0.25", "1", "2"]
    assert [t.get_text() for t in axes.get_yticklabels()] == ["relu", "identity"]
    assert cells(axes) == ["−0.602", "+0.000", "–", "−0.602", "+0.000", "+0.301"]
    (image,) = axes.get_images()
    assert image.get_clim() == (-HALVING, HALVING) and sum(image.norm([0.0])) == 0.5
    least, middle, most = (np.array(image.to_rgba(v)[:3]) for v in (-HALVING, 0.0, HALVING))
    assert middle.min() > 0.95, "no slope, no colour"
    assert least[2] > least[0] and most[0] > most[2], "blue vanishes, orange explodes: told apart by every kind of eye"


def test_the_boundary_stands_where_theory_puts_it(table):
    pytest.importorskip("matplotlib", reason="the extra [plot] is not installed")
    axes = plot_atlas(table)
    lines = [line for line in axes.lines if len(line.get_xdata()) and line.get_color() != "white"]
    drawn = [(line.get_xdata()[0], line.get_ydata()[0], line.get_linestyle()) for line in lines]
    assert (pytest.approx(1.0), 0.5, "-") in drawn, "identity: exactly g = 1, the second column"
    assert (pytest.approx(1 + (math.sqrt(2) - 1)), -0.5, "--") in drawn, "relu: √2, between the columns 1 and 2"
    notes = [t.get_text() for axis in axes.child_axes for t in axis.get_yticklabels()]
    assert notes == ["1.41 (estimate)", "1 (exact)"]


def test_lines_and_notes_of_a_map_stand_at_its_cells(table, tmp_path, monkeypatch):
    pytest.importorskip("matplotlib", reason="the extra [plot] is not installed")
    saved = []
    monkeypatch.setattr("tinygrad_rnn.atlas.map.save_figure", lambda figure, path: saved.append(figure))
    draw_atlas(table, tmp_path / "a.svg", title="mine")
    axes = saved[0].axes[0]
    assert axes.get_title(loc="left").startswith("mine\nrnn, orthogonal weights, ")
    assert axes.get_title(loc="left").endswith("; median of 3 seeds")
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("scale g of the recurrent weights", "")
    turned = plot_atlas(table, x="nonlinearity", y="scale")
    assert (turned.get_xlabel(), turned.get_ylabel()) == ("", "scale g of the recurrent weights")
    assert cells(turned) == ["−0.602", "−0.602", "+0.000", "+0.000", "–", "+0.301"]
    assert {(t.get_ha(), t.get_va()) for t in axes.texts} == {("center", "center")}
    assert [*axes.get_xticks(minor=True)] == [0.5, 1.5] and [*axes.get_yticks(minor=True)] == [0.5]  # between cells
    (right,) = axes.child_axes
    assert [*right.get_yticks()] == [0, 1]  # a note beside each row
    assert min(t.get_zorder() for t in axes.texts) > max(line.get_zorder() for line in axes.lines)
    bar = saved[0].axes[1]
    assert [t.get_text() for t in bar.get_yticklabels()] == ["halves", "stays", "doubles"]
    below = [t.get_text() for t in saved[0].legends[0].get_texts()]
    assert below == ["boundary, estimate (mean field)", "boundary, exact"]


def test_files(table, tmp_path):
    pytest.importorskip("matplotlib", reason="the extra [plot] is not installed")
    for name in ("a.svg", "b.svg", "c.png"):
        draw_atlas(table, tmp_path / name, title="$5 & more" if name == "a.svg" else None)
    draw_atlas(table, tmp_path / "d.svg")
    assert (tmp_path / "b.svg").read_bytes() == (tmp_path / "d.svg").read_bytes()
    ElementTree.parse(tmp_path / "a.svg")
    with pytest.raises(ValueError, match="no column gain"):
        draw_atlas(table, tmp_path / "e.svg", x="gain")
    with pytest.raises(ValueError, match="must end in"):
        draw_atlas(table, tmp_path / "e.jpg")


def test_many_columns_have_no_numbers_and_numbers_of_rows_are_sorted():
    pytest.importorskip("matplotlib", reason="the extra [plot] is not installed")
    rows = [{"scale": float(g), "bias": b, "slope": 0.1} for g in range(1, 41) for b in (1.0, -1.0)]
    axes = plot_atlas(Table.of(rows), y="bias")
    assert cells(axes) == [] and [t.get_text() for t in axes.get_yticklabels()] == ["-1", "1"]


# --- the command ---


def test_values():
    parse = several(finite)
    assert parse("0.5:2:7") == [0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0]
    assert parse("0:0.3:4,5,0.1") == [0.0, 0.1, 0.2, 0.3, 5.0]


def run(capsys, *arguments, code=0):
    assert main(["sweep", *arguments]) == code
    return capsys.readouterr()


def test_command_writes_table_and_map_and_goes_on(capsys, tmp_path, monkeypatch):
    pytest.importorskip("matplotlib", reason="the extra [plot] is not installed")
    monkeypatch.chdir(tmp_path)
    options = ("--nonlinearity", "tanh,relu", "--seeds", "2", "--hidden", "16", "--steps", "30", "--out", "a/b")
    said = run(capsys, *options, "--scale", "0.5,2").out
    assert "wrote a/b/table.jsonl, a/b/table.csv, a/b/map.svg" in said.replace("\\", "/")
    assert said.count("\n") == 6
    first = read_table(tmp_path / "a" / "b" / "table.jsonl")
    monkeypatch.setattr("tinygrad_rnn.atlas.networks.network", None)  # measuring anything again would fail
    assert run(capsys, *options, "--scale", "0.5,2").out == said
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    run(capsys, *options, "--scale", "0.5:2:3", "--workers", "2")
    with (tmp_path / "a" / "b" / "table.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 12 and {row["scale"] for row in rows} == {"0.5", "1.25", "2.0"}
    for row in first:
        (again,) = (r for r in rows if all(r[k] == str(row[k]) for k in ("nonlinearity", "scale", "seed")))
        assert float(again["slope"]) == row["slope"]
    ElementTree.parse(tmp_path / "a" / "b" / "map.svg")


def test_command_on_gated_cells_and_more_than_two_axes(capsys, tmp_path):
    pytest.importorskip("matplotlib", reason="the extra [plot] is not installed")
    options = ("--seeds", "1", "--hidden", "8", "--out", str(tmp_path))
    run(capsys, "--cell", "lstm,gru", "--forget-bias", "0,1", "--steps", "20,30", "--format", "png", *options)
    table = read_table(tmp_path / "table.jsonl")
    assert len(table.where(cell="lstm")) == 4 and len(table.where(cell="gru")) == 2
    assert table.where(cell="gru").values("forget_bias") == [None]
    assert len(list(tmp_path.glob("map*.png"))) == 2


def test_failures_end_with_1(capsys, tmp_path):
    pytest.importorskip("matplotlib", reason="the extra [plot] is not installed")
    options = ("--seeds", "1", "--hidden", "4", "--steps", "2000", "--out", str(tmp_path))
    said = run(capsys, "--nonlinearity", "identity", "--scale", "1,3", *options, code=1)
    assert "1 of 2 failed, the first with Overflow" in said.out


@pytest.mark.parametrize(
    "arguments, reason",
    [
        (["--scale", "1:2"], "expected a number, or A:B:N for N from A to B, found '1:2'"),
        (["--scale", "1:2:1"], "from 2 to 1000"),
        (["--cell", "rnn,mlp"], "'mlp' is none of rnn, lstm, gru"),
        (["--forget-bias", "1"], "--forget-bias belongs to lstm, and the cell is rnn"),
        (["--x", "gain"], "'gain' is no setting of this sweep"),
        (["--x", "scale", "--y", "scale"], "are both scale"),
        (["--scale", "1,2", "--bias", "0,1", "--steps", "20:30"], "--steps"),
        (["--nonlinearity", "tanh,relu", "--scale", "1,2", "--steps", ",".join(map(str, range(20, 50)))], "30 maps"),
    ],
)
def test_misuse(arguments, reason, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    said = run(capsys, *arguments, code=2)
    assert reason in said.err and said.out == "" and not list(tmp_path.iterdir())


def test_a_table_of_something_else_is_left_alone(capsys, tmp_path):
    pytest.importorskip("matplotlib", reason="the extra [plot] is not installed")
    (tmp_path / "table.jsonl").write_text("mine\n", encoding="utf-8")
    said = run(capsys, "--steps", "20", "--hidden", "4", "--out", str(tmp_path), code=2)
    assert "is not the table of a sweep" in said.err
    assert (tmp_path / "table.jsonl").read_text(encoding="utf-8") == "mine\n"

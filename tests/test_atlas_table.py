"""Tables of a sweep against Python's own statistics, and the networks of its settings against what is stated."""

import csv
import io
import math
import statistics
from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinygrad_rnn as tg
from tinygrad_rnn.atlas import Table, grid, sweep
from tinygrad_rnn.atlas.map import _settings
from tinygrad_rnn.atlas.networks import measured, network
from tinygrad_rnn.atlas.sweep import describe

NUMBERS = st.one_of(st.none(), st.just(math.nan), st.floats(-1e3, 1e3))
RECORDS = st.lists(st.fixed_dictionaries({"g": st.sampled_from([2, 1, 3]), "x": NUMBERS}), min_size=1, max_size=12)


@given(RECORDS)
def test_a_summary_is_of_the_numbers_of_each_group(records):
    summary = Table.of(records).summary("x", by=["g"])
    assert summary.columns == ("g", "count", "mean", "median", "sd", "least", "most")
    assert summary["g"] == list(dict.fromkeys(record["g"] for record in records))
    for group in summary:
        xs = [r["x"] for r in records if r["g"] == group["g"] and r["x"] is not None and not math.isnan(r["x"])]
        assert group["count"] == len(xs)
        expected = [f(xs) if xs else math.nan for f in (statistics.fmean, statistics.median, min, max)]
        told = [group[name] for name in ("mean", "median", "least", "most")]
        assert told == pytest.approx(expected, rel=1e-12, abs=1e-12, nan_ok=True)
        sd = statistics.stdev(xs) if len(xs) > 1 else math.nan
        assert group["sd"] == pytest.approx(sd, rel=1e-9, abs=1e-9, nan_ok=True)


def test_a_pivot_has_numbers_by_size_and_words_as_they_come():
    table = Table.of(
        [
            {"cell": "rnn", "g": 2.0, "x": 5.0},
            {"cell": "gru", "g": 0.5, "x": 7.0},
            {"cell": "rnn", "g": 0.5, "x": 1.0},
            {"cell": "rnn", "g": 0.5, "x": 4.0},
        ]
    )
    rows, columns, matrix = table.pivot("cell", "g", "x")
    assert (rows, columns) == (["rnn", "gru"], [0.5, 2.0])
    np.testing.assert_array_equal(matrix, [[2.5, 5.0], [7.0, np.nan]])
    np.testing.assert_array_equal(table.pivot("g", "cell", "x", "count")[2], [[2, 1], [1, np.nan]])
    assert Table.of([{"g": v, "x": 1.0, "y": 1.0} for v in (3, "b", 1)]).pivot("g", "x", "y")[0] == [3, "b", 1]


def test_rows_are_found_by_what_stands_in_them():
    table = Table.of([{"a": 1, "b": 2}, {"a": 1, "b": 3}, {"b": 2, "c": "x"}])
    assert table.columns == ("a", "b", "c") and table.rows[2] == (None, 2, "x") and len(table) == 3
    assert table.where(a=1, b=3).rows == ((1, 3, None),) and table.where().rows == table.rows
    assert table.values("a") == [1, None] and table["c"] == [None, None, "x"]
    assert next(iter(table)) == {"a": 1, "b": 2, "c": None}
    with pytest.raises(KeyError, match="no column 'd' among a, b, c"):
        table["d"]
    with pytest.raises(ValueError, match="'c' holds the text 'x'"):
        table.summary("c", by=["a"])


@pytest.mark.parametrize("count", [1, 24, 25, 40])
def test_of_a_long_table_the_first_and_the_last_ten_rows_are_printed(count):
    lines = str(Table.of([{"k": k, "square": k * k} for k in range(count)])).split("\n")
    shown = [*range(count)] if count <= 24 else [*range(10), *range(count - 10, count)]
    assert lines[0].split() == ["k", "square"]
    assert [line.split() for line in lines[1:] if "..." not in line] == [[str(k), str(k * k)] for k in shown]
    more = [(k, line) for k, line in enumerate(lines) if "..." in line]
    assert more == ([(11, f"... {count - 20} rows more ...")] if count > 24 else [])


@pytest.mark.parametrize("size", [60, 61])
def test_a_long_text_is_cut_a_number_rounded_and_nothing_left_blank(size):
    printed = str(Table.of([{"a": None, "b": 1 / 3, "c": "x" * size, "d": 12345, "e": True}])).split("\n")[1].split()
    assert printed == ["0.3333", "x" * 60 if size == 60 else "x" * 59 + "…", "12345", "True"]


def test_csv_gives_the_same_numbers_back(tmp_path):
    table = Table.of([{"g": 0.1 + 0.2, "word": 'a "b", c'}, {"g": 1e-300, "word": None}])
    text = table.to_csv(tmp_path / "t.csv")
    assert (tmp_path / "t.csv").read_bytes().decode() == text
    head, *rows = csv.reader(io.StringIO(text))
    assert head == ["g", "word"] and [float(row[0]) for row in rows] == table["g"] and rows[0][1] == 'a "b", c'


# --- the networks ---


def test_without_settings_it_is_the_network_that_is_documented():
    cell, inputs = network({})
    assert repr(cell) == "RNNCell(8, 64)" and cell.nonlinearity == "tanh" and inputs.shape == (100, 1, 8)
    np.testing.assert_allclose(cell.weight_hh.numpy() @ cell.weight_hh.numpy().T, np.eye(64), atol=1e-12)
    assert not cell.bias_ih.numpy().any() and not cell.bias_hh.numpy().any()
    assert np.sqrt(8) * cell.weight_ih.numpy().std() == pytest.approx(1.0, abs=0.1)
    assert inputs.std() == pytest.approx(1.0, abs=0.1) and abs(inputs.mean()) < 0.1
    assert (network({"seed": 1})[1] != inputs).all() and (network({"seed": 0})[1] == inputs).all()


def test_each_setting_of_a_simple_network_sets_what_it_says():
    given = {"hidden": 100, "features": 4, "steps": 7, "scale": 3.0, "input_scale": 0.5, "bias": 0.25}
    cell, inputs = network({**given, "weights": "gaussian", "nonlinearity": "relu"})
    assert inputs.shape == (7, 1, 4) and cell.hidden_size == 100 and cell.nonlinearity == "relu"
    assert cell.weight_hh.numpy().std() * 10 == pytest.approx(3.0, rel=0.05)
    assert cell.weight_ih.numpy().std() * 2 == pytest.approx(0.5, rel=0.15)
    assert (cell.bias_ih.numpy() == 0.25).all() and (cell.bias_hh.numpy() == 0).all()
    uniform = network({**given, "weights": "uniform"})[0].weight_hh.numpy()
    assert 0.29 < np.abs(uniform).max() <= 3.0 / 10
    assert (network({**given, "weights": "identity"})[0].weight_hh.numpy() == 3 * np.eye(100)).all()
    centred = network({**given, "centred": True})[0]
    np.testing.assert_allclose(centred.bias_hh.numpy(), -centred.weight_hh.numpy().sum(axis=1) / 2)


def test_a_gated_network_is_uniform_and_its_biases_are_those_that_are_asked_for():
    small = {"hidden": 16, "features": 3, "steps": 5, "scale": 2.0}
    cell, _ = network({**small, "cell": "lstm"})
    for p in cell.parameters().values():
        assert 0.4 < np.abs(p.numpy()).max() <= 2.0 / 4 and abs(p.numpy().mean()) < 0.2
    changed = network({**small, "cell": "lstm", "forget_bias": 3.0, "input_bias": -2.0})[0]
    whole = changed.bias_ih.numpy() + changed.bias_hh.numpy()
    np.testing.assert_allclose(whole[16:32], 3.0)
    np.testing.assert_allclose(whole[:16], -2.0)
    gru = network({**small, "cell": "gru", "update_bias": 4.0})[0]
    assert isinstance(gru, tg.GRUCell) and gru.input_size == 3
    np.testing.assert_allclose((gru.bias_ih.numpy() + gru.bias_hh.numpy())[16:32], 4.0)
    assert cell.forget_gate and not network({**small, "cell": "lstm", "forget_gate": False})[0].forget_gate


def test_chrono_is_drawn_up_to_the_longest_lag_and_a_bias_of_ones_own_goes_first():
    small = {"cell": "lstm", "hidden": 64, "features": 3, "steps": 5, "chrono": 50}
    cell, _ = network(small)
    b = cell.bias_ih.numpy() + cell.bias_hh.numpy()
    forget, closed = b[64:128], b[:64]
    np.testing.assert_allclose(forget, -closed)
    assert (np.exp(forget) >= 1 - 1e-9).all() and 40 < np.exp(forget).max() <= 49 + 1e-9
    own, _ = network({**small, "forget_bias": 2.0})
    np.testing.assert_allclose((own.bias_ih.numpy() + own.bias_hh.numpy())[64:128], 2.0)


@pytest.mark.parametrize("size", [1.0, 3.0])
def test_what_is_measured_is_the_gradient_of_a_vector_of_the_given_size(size):
    cell, inputs = network({"hidden": 5, "steps": 9, "features": 2, "scale": 0.8})
    found = measured(cell, inputs, 3, size=size, edges=(0, 2, 5))
    v = np.random.default_rng([3, 1]).standard_normal(5)
    outputs, _ = tg.unroll(cell, inputs)
    tg.sum(outputs[-1] @ (size * v / np.linalg.norm(v))).backward()
    assert 10 ** found.by_lag.log_norm("weight_hh") == pytest.approx(np.linalg.norm(cell.weight_hh.grad.numpy()))
    assert found.by_lag.edges == (0, 2, 5) and not found.shares
    assert 10 ** found.lanes["", "h"].logs[0, 0] == pytest.approx(size)
    assert measured(cell, inputs, 3).by_lag is None


def test_a_map_says_what_is_the_same_in_all_rows_and_of_how_many_seeds_it_is_the_median():
    rows = [{"cell": "rnn", "scale": g, "bias": 0.5, "seed": s, "slope": 0.1} for g in (1.0, 2.0) for s in (0, 1, 2)]
    default = "rnn, orthogonal weights, 64 units, T = "
    said = _settings(Table.of(rows), ("scale", "nonlinearity"))
    assert said.startswith("rnn, orthogonal weights, bias 0.5, 64 units, T = ") and said.endswith("; median of 3 seeds")
    one = _settings(Table.of([{"scale": 1.0, "bias": 0.0, "seed": 4, "hidden": 9}]), ("scale", "nonlinearity"))
    assert one.startswith("rnn, orthogonal weights, 9 units, T = ") and one.endswith("; one seed")
    assert _settings(Table.of([{"slope": 0.1}]), ("scale", "nonlinearity")).startswith(default)
    varied = _settings(Table.of(rows), ("cell", "bias"))  # what stands along the axes is not said again
    assert "rnn" not in varied and "bias" not in varied and "tanh" not in varied and "scale" not in varied


def scaled(a, configuration, b=0.0):
    """A measure with settings of its own."""
    x = configuration["x"]
    return {"one": np.float32(a * x), "other": np.array(b), "third": np.int64(3), "word": np.str_("yes"), "no": None}


def test_numpys_scalars_are_pythons_own_in_a_table():
    (row,) = sweep(grid(x=[0.5]), partial(scaled, 3.0, b=2.0))
    assert row == {"x": 0.5, "one": 1.5, "other": 2.0, "third": 3, "word": "yes", "no": None}
    assert [type(value) for value in row.values()] == [float, float, float, int, str, type(None)]
    failed = sweep(grid(x=[1]), lambda c: {"a": np.ones(2)})
    assert "'a' is ndarray, not text, a number" in str(next(iter(failed)))


def test_a_measure_is_called_with_all_that_is_given_to_it():
    said = describe(partial(scaled, 3.0, b=2.0))
    assert any(text.endswith("scaled(3.0, b=2.0)") for text in said.values())
    others = [describe(m) for m in (scaled, partial(scaled, 4.0), partial(scaled, 3.0), partial(scaled, 3.0, b=1.0))]
    assert len({str(other) for other in (said, *others)}) == 5

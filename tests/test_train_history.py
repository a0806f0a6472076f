"""The history of a run: as words, as a table, as data that comes back, and as a chart."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

from tinygrad_rnn.figure import COLOURS
from tinygrad_rnn.train import History
from tinygrad_rnn.train import history as chart


def told(losses=(), **more):
    return History("t", 2.0, "the mean: of all", "height", 0.5, list(losses), [0.25] * len(losses), **more)


def test_history_in_words_and_as_a_table():
    assert repr(told()) == "History('t', 0 steps, baseline 2)"
    assert repr(told([1.0, 0.123456])) == "History('t', 2 steps, baseline 2, last loss 0.1235)"
    solved = told([1.0, 0.25], metrics=[(1, 0.7), (2, 0.4)], records=[(2, {"rate": [1, 2]})])
    assert repr(solved) == "History('t', 2 steps, baseline 2, last loss 0.25, solved at 2)"
    rows = [line.split("  ") for line in solved.table().splitlines()]
    assert [[cell.strip() for cell in row if cell.strip()] for row in rows] == [
        ["step", "loss", "height", "gradient", "rate"],
        ["1", "1", "0.7", "0.25"],
        ["2", "0.25", "0.4", "0.25", "…"],
    ]
    lines = solved.table().splitlines()
    starts = [lines[0].index(word) for word in ("step", "loss", "height", "gradient", "rate")]
    assert starts[0] == 0 and all(line == line.rstrip() for line in lines)
    assert all(line[at] != " " and line[at - 1] == " " for line in lines[2:] for at in starts[1:])
    assert told().table().split() == ["step", "loss", "height", "gradient"]  # nothing yet
    assert told([3.0, 1.0]).table().splitlines()[1].split() == ["2", "2", "0.25"]  # never looked at: the whole run
    assert told([1.0], metrics=[(1, 0.5)]).solved_at is None  # below, not at


@pytest.mark.parametrize("every", [1, 3, 4, 10])
def test_a_line_of_the_table_has_the_means_over_the_steps_since_the_line_before(every):
    losses, norms = (np.random.default_rng(0).uniform(1, 2, size=(2, 10))).tolist()
    at = sorted({*range(every, 11, every), 10})
    history = History("t", 2.0, "", "height", 0.5, losses, norms, [(step, 0.1 * step) for step in at])
    rows = [line.split() for line in history.table().splitlines()[1:]]
    parts = [slice(before, step) for before, step in zip([0, *at], at, strict=False)]
    assert rows == [
        [f"{step}", f"{np.mean(losses[part]):.4g}", f"{0.1 * step:.4g}", f"{np.mean(norms[part]):.4g}"]
        for step, part in zip(at, parts, strict=True)
    ]


def test_history_as_data(tmp_path):
    one = told([1.0, 0.25], metrics=[(1, 0.7), (2, 0.4)], records=[(2, {"rate": [1, 2]})])
    one.to_json(tmp_path / "history.json")
    data = json.loads((tmp_path / "history.json").read_text(encoding="utf-8"))
    assert History.from_dict(data) == one and data["steps"] == 2 and data["solved_at"] == 2


@pytest.mark.parametrize(
    "losses, metrics, words",
    [
        ([], [], "no step yet"),
        ([0.5, 0.25], [], "loss 0.25"),
        ([0.5, 0.25], [(1, 0.75), (2, 1 / 3)], "loss 0.25, accuracy 0.3333"),
        ([], [(0, 0.75)], "accuracy 0.75"),
    ],
)
def test_what_is_known_of_the_last_step(losses, metrics, words):
    history = History("t", 1.0, "always 1", "accuracy", 0.1, losses=losses, norms=losses, metrics=metrics)
    assert history.last() == words


def test_smooth_begins_at_the_baseline():
    history = History("t", 2.0, "", "m", 0.0, losses=[1.0] * 3)
    np.testing.assert_allclose(history.smooth(0.5), [1.5, 1.25, 1.125])


def test_history_as_data_is_a_copy():
    one = told([1.0], metrics=[(1, 0.7)])
    data = one.to_dict()
    data["losses"].append(2.0)
    data["metrics"].clear()
    assert one == told([1.0], metrics=[(1, 0.7)]) and data["steps"] == 1 and data["solved_at"] is None


class Axes:
    """Stands for matplotlib's axes, and remembers what is drawn."""

    def __init__(self, limits=(0.1, 1.0)):
        self.calls, self.limits = [], limits
        self.yaxis = SimpleNamespace(
            set_major_formatter=lambda f: setattr(self, "major", f),
            set_minor_formatter=lambda f: setattr(self, "minor", f),
        )

    def get_ylim(self):
        return self.limits

    def __getattr__(self, name):
        return lambda *args, **options: self.calls.append((name, args, options)) or self

    def of(self, name):
        return [(args, options) for called, args, options in self.calls if called == name]


@pytest.mark.parametrize("count", [0, 1, 39, 40, 85])
def test_the_chart_shows_the_losses_their_mean_the_metric_and_the_baseline(count):
    losses = np.random.default_rng(0).random(count) + 0.1
    history = told(losses, metrics=[(2, 0.7), (5, 0.4)] if count else [])
    history.baseline_means = "the $ mean: of all"
    axes = Axes()
    assert history.plot(axes) is axes
    (pale, pale_options), *curves = [(args, o) for args, o in axes.of("plot") if len(args) == 2]
    np.testing.assert_array_equal(pale, [np.arange(1, count + 1), losses])
    width = max(1, count // 40)  # a fortieth of the run
    if count:
        (((at, means), options),) = curves
        assert list(at) == list(range(width, count + 1))
        np.testing.assert_allclose(means, [losses[k - width : k].mean() for k in at])
        assert options["color"] == pale_options["color"] == COLOURS[0] and options["label"] == "loss"
        assert 0 < pale_options["alpha"] < 0.5 and pale_options["linewidth"] < options["linewidth"]
        (((steps, values, marker), options),) = [(a, o) for a, o in axes.of("plot") if len(a) == 3]
        assert (steps, values, marker, options["label"]) == ((2, 5), (0.7, 0.4), "o", "height")
        assert options["color"] != COLOURS[0]
        (((x,), solved),) = axes.of("axvline")
        assert (x, solved["linestyle"], solved["label"]) == (5, ":", "solved at 5")
    else:
        assert not curves and not axes.of("axvline")
    (((height,), baseline),) = axes.of("axhline")
    assert (height, baseline["linestyle"], baseline["label"]) == (2.0, "--", r"baseline 2: the \$ mean")
    assert [axes.of(name)[0][0] for name in ("set_xlabel", "set_ylabel", "set_yscale")] == [
        ("step",),
        ("loss",),
        ("log",),
    ]
    assert axes.of("legend") and axes.of("legend")[0][1]["frameon"] is False and axes.of("grid")
    colours = [options["color"] for _, _, options in axes.calls if "color" in options]
    assert all(c in COLOURS or 0 <= float(c) <= 1 for c in colours)  # a shade of grey is a number in letters
    assert axes.major(0.2, None) == axes.minor(0.2, None) == "0.2"  # no powers of ten


@pytest.mark.parametrize(("high", "text"), [(1.999, "0.2"), (2.0, ""), (50.0, "")])
def test_between_the_decades_numbers_stand_where_there_is_room(high, text):
    axes = told([1.0]).plot(Axes((0.1, high)))
    assert axes.minor(0.2, None) == text and axes.major(0.2, None) == "0.2"


def test_charts_are_written_where_they_can_be(monkeypatch, tmp_path):
    drawn, saved = [], []
    figure = SimpleNamespace(add_subplot=lambda: drawn[-1])
    monkeypatch.setattr(chart, "new_figure", lambda: drawn.append(Axes()) or figure)
    monkeypatch.setattr(chart, "save_figure", lambda figure, path: saved.append((figure, path)))
    told([1.0]).save(tmp_path / "a.svg")
    told([1.0]).save(tmp_path / "b.pdf", title="Mine: $")
    assert told([1.0]).plot() is drawn[2]
    assert [path.name for _, path in saved] == ["a.svg", "b.pdf"]
    titles = [axes.of("set_title")[0][0][0] for axes in drawn if axes.of("set_title")]
    assert titles == ["t", r"Mine: \$"]
    with pytest.raises(ValueError, match="cannot write a chart"):
        told([1.0]).save(tmp_path / "a.txt")
    assert len(drawn) == 3 and len(saved) == 2  # asked before anything is drawn


def test_charts_of_matplotlib(tmp_path):
    pytest.importorskip("matplotlib", reason="the extra plot is not installed")
    told([1.0, 0.25], metrics=[(1, 0.7), (2, 0.4)]).save(tmp_path / "a.svg")
    assert (tmp_path / "a.svg").stat().st_size > 5000

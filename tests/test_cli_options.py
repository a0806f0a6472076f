"""Every option of every command changes something, or is refused, and no combination ends in a traceback."""

import sys
from argparse import ArgumentTypeError
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import tinygrad_rnn as tg
from tinygrad_rnn import atlas, diagnose, nn, train
from tinygrad_rnn.cli import COMMANDS, main
from tinygrad_rnn.cli.options import (
    OPTIONS,
    STANDARD_OUTPUT,
    file,
    file_or_output,
    finite,
    mark,
    one_of,
    positive,
    several,
    whole,
)
from tinygrad_rnn.diagnose.remedy import Search

OPTIONS_OF = {command.name: command.options.split() for command in COMMANDS}


def prepare(folder):
    """Files to name in options."""
    rng = np.random.default_rng(0)
    rows = "".join(f"{k},{x:.3f},{y:.3f}\n" for k, (x, y) in enumerate(rng.normal(3.0, 2.0, size=(60, 2)).round(3)))
    (folder / "x.csv").write_text("k,a,b\n" + rows, encoding="utf-8")
    (folder / "y.csv").write_text("k,a,b\n" + rows.replace("1", "7"), encoding="utf-8")
    several = range(1, 41)
    (folder / "years.csv").write_text("2019,2020\n" + "".join(f"{k},{k * k % 7}\n" for k in several), encoding="utf-8")
    (folder / "colon.csv").write_text("".join(f"{k % 5}:5,{k * k % 7}\n" for k in several), encoding="utf-8")
    (folder / "thousands.csv").write_text("".join(f"{k},234;{k * k % 7}\n" for k in several), encoding="utf-8")
    (folder / "mine.txt").write_text("to be or not to be, that is the question", encoding="utf-8")
    wrong = 'import tinygrad_rnn as tg\ntg.primitive("cube", lambda x: x**3, lambda g, y, x: 2 * g * x * x)\n'
    (folder / "rules.py").write_text(wrong, encoding="utf-8")
    np.save(folder / "three.npy", rng.normal(size=(30, 30, 1)))
    np.save(folder / "lengths.npy", np.r_[np.full(29, 30), 20])
    nn.save(folder / "w.npz", tg.LSTM(1, 3, rng=1).state_dict())
    parts = {f"a.{k}": v for k, v in tg.LSTM(1, 3, rng=1).state_dict().items()}
    nn.save(folder / "two.npz", parts | {f"b.{k}": v for k, v in tg.LSTM(1, 3, rng=2).state_dict().items()})


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("options")
    prepare(folder)
    return folder, {}


@pytest.fixture(autouse=True)
def elsewhere(prepared, monkeypatch):
    monkeypatch.chdir(prepared[0])


@pytest.fixture
def outcome(monkeypatch, capsys, prepared):
    """What a command line leaves: exit code, what is told, files, what training was asked for; no chart is drawn."""
    asked = []
    fit, sweep = train.fit, atlas.sweep
    monkeypatch.setattr(atlas, "sweep", lambda *a, **k: asked.append(repr(k)) or sweep(*a, **k))
    monkeypatch.setattr(train, "fit", lambda *a, **k: asked.append(repr((a[1:], k))) or fit(*a, **k))
    monkeypatch.setattr("tinygrad_rnn.cli.train.find_spec", lambda name: None)
    monkeypatch.setattr(sys.modules["tinygrad_rnn.figure"], "new_figure", lambda *a: None)
    monkeypatch.setattr(diagnose.GradientFlow, "save", lambda flow, path: Path(path).write_text("."))
    monkeypatch.setattr(atlas, "draw_atlas", lambda table, path, x, y: Path(path).write_text(f"{x} {y}"))
    monkeypatch.setattr(atlas, "process_pool", lambda n: asked.append(f"{n} workers") or ThreadPoolExecutor(1))
    # Of the changes that may heal only those of the first kind are tried: what a search finds is no matter of options.
    monkeypatch.setattr(Search, "run", lambda self: list(filter(None, [self.scan(self.families[0], {})])))
    before, known = {path.name for path in Path.cwd().iterdir()}, prepared[1]

    def run(words):
        words = tuple(words.split() if isinstance(words, str) else words)
        if words in known:
            return known[words]
        asked.clear()
        code = main(words)
        said = capsys.readouterr()
        files = {}
        for path in sorted(Path.cwd().rglob("*")):
            if path.name not in before and path.is_file() and path.suffix not in (".lock", ".npz"):
                files[path.relative_to(Path.cwd()).as_posix()] = path.read_bytes()
                path.unlink()
        for path in sorted(Path.cwd().rglob("*"), reverse=True):
            if path.name not in before:
                path.rmdir() if path.is_dir() else path.unlink()
        known[words] = code, said.out, said.err, files, tuple(asked)
        return known[words]

    return run


# --- values ---


@given(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6), st.integers(2, 30))
def test_values_evenly_between_two_are_those_of_linspace(a, b, n):
    values = several(finite)(f"{a!r}:{b!r}:{n}")
    apart = np.abs(np.subtract.outer(np.linspace(a, b, n), values))
    assert (apart.min(axis=1) <= 1e-11 * max(abs(a), abs(b))).all() and len(values) == len({*values}) <= n
    assert values == sorted(values, reverse=a > b)


def test_values_between_commas():
    assert several(finite)("0.5:2:7") == [0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0]
    assert several(finite)("3, 1:0:3 ,1,3") == [3.0, 1.0, 0.5, 0.0] and several(finite)("1:1:2") == [1.0]
    assert several(whole(0, 9))("1, 2,1") == [1, 2] and several(one_of("a", "b"))("b,a") == ["b", "a"]
    for wrong in ("", "1,", "1:2", "1:2:1", "1:2:1001", "1:2:3:4", "0:1:600,2:3:600", "1:nan:3"):
        with pytest.raises(ArgumentTypeError):
            several(finite)(wrong)


BAD = {
    whole(1, 10): ("", "0", "11", "1_0", "\u0661", "+1", " 1", "1.0", "9" * 30),
    finite: ("", "nan", "inf", "1e400", "1_0", "x"),
    positive: ("0", "-1", "nan"),
    one_of("a", "b"): ("", "A", "a b"),
    file: ("",),
}


def test_a_value_is_what_it_says_or_refused():
    assert [whole(1, 10)(text) for text in ("1", "10", "007")] == [1, 10, 7]
    assert (finite("-1e3"), finite("1E-400"), positive("1e-300")) == (-1000.0, 0.0, 1e-300)
    assert [mark(text) for text in ("tab", r"\t", "space", ";", " ")] == ["\t", "\t", " ", ";", " "]
    assert file("~/a") == Path.home() / "a" and file("~a") == Path("~a") and file_or_output("-") == STANDARD_OUTPUT
    for convert, texts in BAD.items():
        for text in texts:
            with pytest.raises(ArgumentTypeError):
                convert(text)


DRAW = "draw rnn --out x.dot --steps 3 --hidden 2"
FLOW = "flow --cell lstm --steps 12 --hidden 2"
TRAIN = "train --task adding --length 6 --hidden 2 --updates 3 --batch 2"
SERIES = "train --task series --length 6 --hidden 2 --updates 3 --batch 2"
CHECK = "check rules.py"
SWEEP = "sweep --hidden 4 --steps 12 --seeds 1"
EFFECTS = {
    "cell": [
        (DRAW.replace(" rnn", ""), "--cell gru"),
        (FLOW, "--cell gru"),
        (TRAIN, "--cell gru"),
        (SWEEP, "--cell gru"),
    ],
    "hidden": [(DRAW, "--hidden 3"), (FLOW, "--hidden 4"), (TRAIN, "--hidden 3"), (SWEEP, "--hidden 4,5")],
    "seed": [
        (CHECK, "--seed 1"),
        (DRAW, "--seed 1"),
        ("flow --weights w.npz --data x.csv --column a", "--seed 1"),
        (TRAIN, "--seed 1"),
    ],
    "dtype": [(DRAW, "--dtype float32"), (f"{FLOW} --json f.json", "--dtype float32"), (TRAIN, "--dtype float32")],
    "init": [(DRAW, "--init keras"), (FLOW, "--init chrono"), (TRAIN, "--init keras")],
    "nonlinearity": [
        (DRAW, "--nonlinearity relu"),
        (FLOW.replace("lstm", "rnn"), "--nonlinearity sigmoid"),
        (f"{TRAIN} --cell rnn", "--nonlinearity identity"),
        (SWEEP, "--nonlinearity relu,tanh"),
    ],
    "forget_bias": [
        (c.replace(" rnn", " lstm"), "--forget-bias 2") for c in (DRAW, FLOW, TRAIN, f"{SWEEP} --cell lstm")
    ],
    "input_bias": [
        (c.replace(" rnn", " lstm"), "--input-bias -2") for c in (DRAW, FLOW, TRAIN, f"{SWEEP} --cell lstm")
    ],
    "update_bias": [
        (c.replace(" rnn", " gru").replace("lstm", "gru"), "--update-bias 2")
        for c in (DRAW, FLOW, f"{TRAIN} --cell gru", f"{SWEEP} --cell gru")
    ],
    "weights": [
        ("draw --out x.dot --steps 3", "--weights w.npz"),
        ("flow --steps 20", "--weights w.npz"),
        (TRAIN.replace(" --hidden 2", "").replace("adding", "series"), "--weights w.npz"),
    ],
    "prefix": [
        (f"{c} --weights two.npz --prefix a", "--prefix b")
        for c in ("draw --out x.dot --steps 3", "flow --steps 20", SERIES.replace(" --hidden 2", ""))
    ],
    "batch_first": [(f"{c} --data three.npy", "--no-batch-first") for c in (DRAW, FLOW, SERIES)],
    "data": [(f"{c} --data x.csv", "--data y.csv") for c in (DRAW, FLOW, SERIES)],
    "column": [(f"{c} --data x.csv", "--column a") for c in (DRAW, FLOW, SERIES)],
    "sep": [(f"{c} --data colon.csv", "--sep :") for c in (DRAW, FLOW, SERIES)],
    "decimal": [(f"{c} --data thousands.csv --decimal ,", "--decimal .") for c in (DRAW, FLOW, SERIES)],
    "header": [(f"{c} --data years.csv", "--header") for c in (DRAW, FLOW, SERIES)],
    "lengths": [(f"{c} --data three.npy", "--lengths lengths.npy") for c in (DRAW, FLOW)]
    + [(f"{SERIES} --data three.npy", "--lengths lengths.npy")],
    "standardise": [(f"{c} --data x.csv", "--no-standardise") for c in (DRAW, FLOW, SERIES)]
    + [("flow --steps 20 --weights w.npz --data x.csv --column a", "--standardise")],
    "noise": [(DRAW, "--noise 1"), (FLOW, "--noise 1")],
    "steps": [(DRAW, "--steps 4"), (FLOW, "--steps 13"), (SWEEP, "--steps 12,13")],
    "windows": [(DRAW, "--windows 2"), (FLOW, "--windows 3")],
    "loss": [(DRAW, "--loss all"), (FLOW, "--loss all")],
    "lag": [(FLOW, "--lag 5")],
    "read": [(FLOW, "--read 9")],
    "cure": [("flow --cell rnn --steps 4 --hidden 2", "--cure adding")],
    "fail_on": [(FLOW.replace("lstm", "rnn --nonlinearity sigmoid"), "--fail-on vanishing")],
    "out": [
        (DRAW, "--out y.dot"),
        (FLOW, "--out x.svg"),
        (TRAIN, "--out mine"),
        (SWEEP, "--out mine"),
    ],
    "order": [(CHECK, "--order 1")],
    "json": [(DRAW, "--json x.json"), (FLOW, "--json -"), (CHECK, "--json -")],
    "level": [(DRAW, "--level step")],
    "fold": [(DRAW, "--fold 1 --level step")],
    "parameters": [(DRAW, "--parameters none")],
    "norm": [(DRAW, "--norm max")],
    "heads": [(DRAW, "--heads data")],
    "colours": [(DRAW, "--colours 1e-9:1"), (DRAW, "--colours fixed")],
    "page": [(DRAW, "--page notebook"), (DRAW, "--page 900x700")],
    "view": [(DRAW, "--view rolled")],
    "film": [(DRAW.replace("dot", "svg"), "--film scale=1:2:2")],
    "theme": [(DRAW, "--theme dark")],
    "title": [(DRAW, "--title T")],
    "task": [(TRAIN, "--task copying")],
    "length": [(TRAIN, "--length 7")],
    "updates": [
        ("flow --cell rnn --steps 4 --hidden 2 --cure adding --updates 2", "--updates 3"),
        (TRAIN, "--updates 4"),
    ],
    "batch": [(TRAIN, "--batch 3")],
    "optimiser": [(TRAIN, "--optimiser sgd")],
    "lr": [(TRAIN, "--lr 0.5")],
    "clip_norm": [(TRAIN, "--clip-norm 1e-3")],
    "clip_value": [(f"{TRAIN} --clip-norm 5", "--clip-value 1e-3")],
    "window": [(TRAIN, "--window 2"), (SERIES, "--window 2")],
    "derived": [(TRAIN, "--derived")],
    "until_solved": [(TRAIN, "--until-solved")],
    "evaluate_every": [(TRAIN, "--evaluate-every 1")],
    "checkpoint_every": [(TRAIN, "--checkpoint-every 1")],
    "resume": [(TRAIN, "--resume")],
    "recurrent": [(SWEEP, "--recurrent gaussian")],
    "scale": [(SWEEP, "--scale 0.5:2:3")],
    "bias": [(SWEEP, "--bias 1")],
    "centred": [(SWEEP, "--centred")],
    "input_scale": [(SWEEP, "--input-scale 2")],
    "chrono": [(f"{SWEEP} --cell lstm", "--chrono 9")],
    "seeds": [(SWEEP, "--seeds 2")],
    "x": [(f"{SWEEP} --bias 0,1 --scale 1,2", "--x bias")],
    "y": [(f"{SWEEP} --bias 0,1 --scale 1,2", "--y hidden")],
    "format": [(SWEEP, "--format png")],
    "workers": [(SWEEP, "--workers 2")],
    "retry": [(SWEEP, "--retry")],
}


@pytest.mark.parametrize("option", OPTIONS)
def test_every_option_of_every_command_changes_something(option, outcome):
    """The weights that training leaves, and the checkpoint, are told apart by what `fit` was asked for."""
    tried = {words.split()[0] for words, _ in EFFECTS[option]}
    assert tried == {name for name, own in OPTIONS_OF.items() if option in own}
    for words, more in EFFECTS[option]:
        without, given = outcome(words), outcome(f"{words} {more}")
        assert without != given, f"{more} changes nothing of {words}"
        assert given[0] in (0, 1), given


@pytest.mark.parametrize("words", [DRAW, FLOW, TRAIN])
def test_a_cell_is_a_word_or_an_option_in_every_command(words, outcome):
    name, *rest = words.replace(" rnn", "").replace(" --cell lstm", "").split()
    assert outcome([name, "gru", *rest]) == outcome([name, *rest, "--cell", "gru"])
    assert outcome([name, "gru", *rest])[0] == 0


def test_the_axes_of_the_map_are_those_that_were_named(outcome):
    words = f"{SWEEP} --bias 0,1 --scale 1,2 --recurrent gaussian,radius"
    assert outcome(f"{words} --x recurrent --y bias")[3]["atlas/map-scale=1.0.svg"] == b"weights bias"
    assert outcome(f"{words} --x bias --y scale")[3]["atlas/map-weights=radius.svg"] == b"bias scale"


# --- what changes nothing is refused ---

NOTHING = {
    "--prefix belongs to --weights": (f"{DRAW} --prefix a", f"{FLOW} --prefix a", f"{TRAIN} --prefix a"),
    "batch-first belongs to data of three axes": (
        f"{DRAW} --batch-first",
        f"{FLOW} --data x.csv --no-batch-first",
        f"{SERIES} --batch-first",
        "draw --weights w.npz --data x.csv --column a --batch-first",
        "flow --weights w.npz --data x.csv --column a --no-batch-first",
    ),
    "belongs to --data": (
        f"{DRAW} --sep ;",
        f"{FLOW} --decimal .",
        f"{SERIES} --header",
        f"{FLOW} --lengths lengths.npy",
    ),
    "belongs to data, and --noise is given": tuple(
        f"{FLOW} --noise 2 {more}"
        for more in ("--data x.csv", "--column a", "--sep ;", "--no-header", "--standardise", "--windows 2")
    ),
    "--standardise belongs to numbers, and this is text": (f"{DRAW} --data mine.txt --no-standardise",),
    "only a text file has columns": (f"{DRAW} --data three.npy --sep ;", f"{FLOW} --data three.npy --column a"),
    "lengths are those of padded sequences": (f"{DRAW} --data x.csv --lengths lengths.npy",),
    "windows are cut from one sequence": (f"{DRAW} --data three.npy --windows 2",),
    "is for a cell that begins here: w.npz": tuple(
        f"draw --weights w.npz {more}"
        for more in ("--hidden 8", "--init pytorch", "--forget-bias 1", "--update-bias 1")
    ),
    "belongs to lstm, and the cell is rnn": (f"{DRAW} --forget-bias 1", f"{TRAIN} --cell rnn --input-bias 1"),
    "it would change nothing": (
        f"{FLOW} --init chrono --forget-bias 1 --input-bias 1",
        f"{DRAW.replace('rnn', 'gru')} --init chrono --update-bias 1",
    ),
    "cuts nothing: a sequence has 6 steps": (f"{TRAIN} --window 6", f"{SERIES} --window 100"),
    "belongs to the tasks text and series, and the task is adding": tuple(
        f"{TRAIN} {more}" for more in ("--data x.csv", "--standardise", "--batch-first", "--sep ;")
    ),
    "belongs to the task series, and the task is text": (
        "train --task text --column a",
        "train --task text --standardise",
    ),
    "--bias belongs to rnn, and the cell is lstm": (f"{SWEEP} --cell lstm --bias 1",),
    "--chrono sets the biases of the lstm's gates, and they are given": (
        f"{SWEEP} --cell lstm --chrono 9 --forget-bias 1 --input-bias 1",
    ),
    "--chrono sets the biases of the gru's gates": (f"{SWEEP} --cell lstm,gru --chrono 9 --update-bias 1",),
    "--cell is given, and so is lstm": tuple(
        f"{words} lstm --cell gru" for words in ("draw", "flow", "train --task adding")
    ),
    "--fail-on : the verdicts are": (f"{FLOW} --fail-on ,",),
    "say --length for these, and --updates": ("train --task adding --steps 600", "train --steps=600"),
    "unrecognized arguments: --seed (": ("sweep --seed 3",),
    "unrecognized arguments: --hid (": ("draw rnn --hid 3",),
}


@pytest.mark.parametrize("reason", NOTHING)
def test_what_changes_nothing_is_refused(reason, outcome):
    for words in NOTHING[reason]:
        code, out, err, files, _ = outcome(words)
        assert code == 2 and out == "" and files == {} and err.count("\n") == 1, words
        assert reason in err and err.startswith("tinygrad-rnn: error: "), err


def test_too_few_steps_and_what_to_do(outcome):
    assert (
        "101 steps asked for, but there are only 100: take fewer with --steps, or give a longer file with --data, or "
        "--noise" in outcome("draw rnn --steps 101")[2]
    )
    assert "steps: 60, values" in outcome("draw rnn --data x.csv --steps 60 --out x.dot")[1]
    assert (
        "T = 60 steps" in outcome(f"{FLOW.replace('--steps 12', '')} --data x.csv")[1]
    )  # no more is asked for than there is


def test_the_numbers_of_the_scale_are_told_and_weights_see_their_data_as_it_is(outcome):
    scaled = outcome(f"{DRAW} --data x.csv --column a")[1]
    values = np.loadtxt("x.csv", delimiter=",", skiprows=1)[:, 1]
    assert f"scale   a: mean {values.mean():.6g}, standard deviation {values.std():.6g}" in scaled
    raw = f"scale   a from {values[:5].min():.6g} to {values[:5].max():.6g}"
    for words in (
        "draw --weights w.npz --data x.csv --column a --out x.dot",
        f"{DRAW} --data x.csv --column a --no-standardise",
    ):
        said = outcome(words.replace("--steps 3", "--steps 5"))[1]
        assert raw in said and "(a), as in the file" in said
    assert ", standardised" in outcome("draw --weights w.npz --out x.dot")[1]  # the packaged series is nobody's


def test_a_sweep_without_matplotlib_ends_before_the_work(outcome, monkeypatch):
    def missing():
        raise ImportError("charts need matplotlib")

    monkeypatch.setattr(sys.modules["tinygrad_rnn.figure"], "new_figure", missing)
    code, out, err, files, asked = outcome(f"{SWEEP} --out elsewhere")
    assert (code, out, files, asked) == (2, "", {}, ()) and err == "tinygrad-rnn: error: charts need matplotlib\n"


def test_a_sweep_with_failures_ends_with_one_and_tells_the_first(outcome):
    code, out, _, files, _ = outcome(f"{SWEEP} --scale 1,1e200 --nonlinearity identity --bias 1e300")
    assert code == 1 and "1 of 2 failed, the first with " in out and files["atlas/table.jsonl"].count(b'"error"') == 1


def test_training_by_default_is_what_help_says(outcome):
    _, out, _, files, asked = outcome("train --task adding --length 6 --updates 1")
    assert "LSTM, hidden 32" in out and "Adam(lr=0.01" in out and set(files) == {"run/history.json"}
    for told in ("'seed': 0", "'evaluate_every': 50", "'checkpoint_every': 100", "'clip_norm': 1.0"):
        assert told in asked[0]
    assert "window" not in asked[0] and "clip_value" not in asked[0]


def test_how_many_sequences_an_update_has(outcome):
    text = "train --task text --data mine.txt --length 6 --hidden 2 --updates 1"
    for words, size in ((text, 1), (TRAIN.replace("--batch 2", ""), 32), (SERIES, 2), (f"{text} --batch 3", 3)):
        assert f"'batch_size': {size}" in outcome(words)[4][0]


def test_training_tells_the_scale_of_its_data(outcome):
    values = np.loadtxt("x.csv", delimiter=",", skiprows=1)[:, 1]
    scale = f"scale   a: mean {values.mean():.6g}, standard deviation {values.std():.6g}\n"
    assert scale in outcome(f"{SERIES} --data x.csv --column a")[1]
    raw = f"scale   a from {values.min():.6g} to {values.max():.6g}\n"
    assert raw in outcome(f"{SERIES} --data x.csv --column a --no-standardise")[1]
    assert "scale" not in outcome(TRAIN)[1]


def test_one_loss_by_one_name(outcome):
    """What `draw` calls a loss is what `flow` measures: at both losses the gradients of h fall alike."""
    assert "L = Σ v·h over all steps" in outcome(f"{DRAW} --loss all")[1]
    assert "L = Σ v·h over all steps" in outcome(f"{FLOW} --loss all")[1]


# --- anything at all ---

FITTING = {
    **dict.fromkeys(("steps", "length", "updates", "hidden", "batch", "noise", "windows", "window"), ("1", "2", "5")),
    **dict.fromkeys(("evaluate_every", "checkpoint_every", "seed"), ("1", "3")),
    **dict.fromkeys(("forget_bias", "input_bias", "update_bias"), ("-2", "0", "1e300")),
    **dict.fromkeys(("lr", "clip_norm", "clip_value"), ("0.1", "1e-300", "1e300")),
    "data": ["x.csv", "three.npy", "mine.txt", "thousands.csv", "years.csv", "colon.csv", "no.csv"],
    "lengths": ["lengths.npy", "x.csv"],
    "weights": ["w.npz", "two.npz", "x.csv"],
    "column": ["a", "1", "k"],
    "level": ["auto", "op", "gate", "step", "2"],
    "fold": ["none", "1"],
    "colours": ["fixed", "1e-6:1"],
    "page": ["slide", "notebook", "900x700"],
    "film": ["scale=1:2:3", "scale=1,2"],
    "sep": [";", ",", ":", "tab", " "],
    "decimal": [".", ","],
    "prefix": ["a", "b", "c"],
    "out": ["x.dot", "x.svg", "x.csv", "w.npz", "no/x.dot", "mine"],
    "json": ["x.json", "-", "x.csv", "x.dot", "w.npz", "."],
    "order": ["1", "2"],
    "title": ["T", "\n", "é"],
    "fail_on": ["vanishing", "exploding,growing", "D>4", "reach<50"],
}
ODD = ["", "0", "-1", "nan", "1e400", "1_0", "١", ".", "~/no", "\n", "--", "\udcff"]


def value_of(draw, name):
    fitting = FITTING.get(name) or [word.strip(",;'") for word in OPTIONS[name]["help"].split(";")[0].split()]
    return draw(st.sampled_from(fitting if draw(st.integers(0, 9)) else ODD))


@st.composite
def lines(draw):
    """A command line: a command, some of its options, values that may fit."""
    name = draw(st.sampled_from(["draw", "flow", "train"]))
    words = [name, *draw(st.sampled_from([[], ["lstm"], ["gru"]])), "--out=o.dot"] if name == "draw" else [name]
    if name == "flow":
        words += draw(st.sampled_from([[], ["--cell", "lstm"], ["--cell", "rnn"]]))
    if name == "train":
        words += ["--task", draw(st.sampled_from(["adding", "series", "text"])), "--length", "4", "--updates", "1"]
        words += ["--hidden", "2"]
    for option in draw(st.lists(st.sampled_from(OPTIONS_OF[name]), max_size=4, unique=True)):
        flag = f"--{option.replace('_', '-')}"
        if "type" in OPTIONS[option]:
            words += [f"{flag}={value_of(draw, option)}"]
        else:
            words.append(
                draw(
                    st.sampled_from(
                        [flag, flag.replace("--", "--no-") if OPTIONS[option]["action"] != "store_true" else flag]
                    )
                )
            )
    return words


@given(lines())
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_line_ends_well_or_in_one_line(outcome, prepared, words):
    named = [word.partition("=")[2] for word in words if word.startswith(("--data=", "--weights=", "--lengths="))]
    contents = {path: path.read_bytes() for path in prepared[0].iterdir() if path.is_file()}
    code, _, err, _, _ = outcome(words)
    told = [line for line in err.splitlines() if "warning: " not in line and ": baseline" not in line]
    assert (code == 2 and len(told) == 1 and told[0].startswith("tinygrad-rnn: error: ")) or (
        code in (0, 1) and (not told or "--json=-" in words)
    )
    for path, content in contents.items():
        if path.read_bytes() != content:
            path.write_bytes(content)
            assert path.name not in named, "an input was written to"

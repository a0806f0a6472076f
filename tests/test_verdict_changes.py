"""What changes a verdict: each change as it is printed, built by hand, and pasted; the report that tells of it."""

import csv
import dataclasses
import json
import re

import numpy as np
import pytest
from hand_made_ends import LITTLE, end, straight

import tinygrad_rnn as tg
from tinygrad_rnn import nn
from tinygrad_rnn.diagnose import GradientFlow, Verdict, cure, gradient_flow
from tinygrad_rnn.diagnose.changes import KINDS as CHANGES
from tinygrad_rnn.diagnose.changes import checked, label_of
from tinygrad_rnn.diagnose.remedy import Trial, families, objection
from tinygrad_rnn.diagnose.verdict import WORDS, Judgement, in_decades
from tinygrad_rnn.train import Adam, Adding, SequenceModel, fit


def noise(steps, batch, size, seed=0):
    return np.random.default_rng(seed).normal(size=(steps, batch, size))


def stack(kind, layers, both, seed, hidden=5):
    return {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}[kind](3, hidden, layers, bidirectional=both, rng=seed)


# --- changes ---


def by_hand(net, changes):
    """The network with the changes made without `diagnose`."""
    twin = type(net)(3, 5, rng=0)
    state = {name: np.array(array) for name, array in net.state_dict().items()}
    rows = {"forget_bias": slice(5, 10), "input_bias": slice(0, 5), "output_bias": slice(15, 20)}
    rows |= {"update_bias": slice(5, 10)}
    for name, value in changes.items():
        for key in state:
            if name in ("weight_scale", "input_scale") and key.startswith(
                {"weight_scale": "weight_hh", "input_scale": "weight_ih"}[name]
            ):
                state[key] = state[key] * value
            elif name == "gate_bias" and key.startswith("bias"):
                state[key][5:10] = value * key.startswith("bias_ih")
                state[key][:5] = -value * key.startswith("bias_ih")
            elif name in rows and key.startswith("bias"):
                state[key][rows[name]] = value * key.startswith("bias_ih")
            elif name == "bias" and key.startswith("bias"):
                state[key] = np.full(5, value * key.startswith("bias_ih"))
    twin.load_state_dict(state)
    return twin


@pytest.mark.parametrize(
    "kind, changes",
    [
        ("lstm", {"forget_bias": 3.0}),
        ("lstm", {"gate_bias": 2.0}),
        ("lstm", {"input_bias": -2.0, "output_bias": 2.0}),
        ("lstm", {"weight_scale": 1.5, "forget_bias": 1.0}),
        ("gru", {"update_bias": 3.0}),
        ("rnn", {"weight_scale": 1.5, "input_scale": 0.1}),
        ("rnn", {"bias": 0.5}),
    ],
)
def test_what_if_is_the_network_built_by_hand(kind, changes):
    net, x = stack(kind, 1, False, 1), noise(30, 3, 3)
    other = list(gradient_flow(net, x).what_if(**changes).flows.values())[1]
    expected = gradient_flow(by_hand(net, changes), x)
    np.testing.assert_allclose(other.end.x, expected.end.x, rtol=1e-12)
    assert (other.word, other.decades_lost) == (expected.word, expected.decades_lost)


def test_inputs_standardised_are_those_standardised_by_hand():
    net, x = stack("rnn", 1, False, 1), 100 + 50 * noise(30, 3, 3)
    other = list(gradient_flow(net, x).what_if(standardise=True).flows.values())[1]
    plain = (x - x.mean(axis=(0, 1))) / x.std(axis=(0, 1))
    assert other.decades_lost == pytest.approx(gradient_flow(net, plain).decades_lost)


@pytest.mark.parametrize("kind", ["rnn", "lstm", "gru"])
def test_every_change_that_is_printed_is_what_is_measured_with_it(kind):
    flow = gradient_flow(stack(kind, 1, False, 2, hidden=8), noise(40, 2, 3))
    assert flow.verdict.trials and flow.verdict.remedy == str(flow.verdict.trials[0])
    for trial in flow.verdict.trials:
        other = list(flow.what_if(**trial.changes).flows.values())[1]
        assert other.decades_lost == trial.decades and (other.word == "healthy") >= trial.heals
        assert f"change    {trial}" in flow.text() or trial not in flow.verdict.trials[:4]
    assert [t.heals for t in flow.verdict.trials] == sorted((t.heals for t in flow.verdict.trials), reverse=True)


def test_an_lstms_first_change_is_of_both_gate_biases():
    flow = gradient_flow(tg.LSTMCell(2, 16, rng=0), noise(50, 4, 2))
    assert "chrono" in flow.verdict.trials[0].changes and flow.verdict.trials[0].heals
    assert flow.verdict.causes == () and "default networks do the same" in flow.verdict.cause


@pytest.mark.parametrize(
    "about, said", [("", "own cells only"), ("loss", ""), ("steps", ""), ("inputs", "the loss ...")]
)
def test_whether_there_is_a_cause_is_not_read_off_the_reasons_words(about, said):
    found = Verdict("fading", 3.0, 0.0, 9, 2, None, "the loss ...", about=about)
    assert said in found.cause and bool(said) == bool(found.cause)


def test_what_is_drawn_anew_is_drawn_first_and_loses_nothing():
    """In whatever order they are asked for: an input weight that is scaled and then drawn anew is not scaled."""
    net, x = stack("lstm", 1, False, 1), noise(30, 3, 3)
    flow = gradient_flow(net, x)
    changes = {"input_scale": 0.1, "redraw": "input weights"}
    one, other = (
        list(flow.what_if(**dict(order)).flows.values())[1] for order in (changes.items(), reversed(changes.items()))
    )
    drawn = list(flow.what_if(redraw="input weights").flows.values())[1]
    np.testing.assert_array_equal(one.end.x, other.end.x)
    scaled = stack("lstm", 1, False, 1)
    scaled.load_state_dict(drawn.experiment.model.state_dict())
    scaled.parameters()["weight_ih_l0"].data = 0.1 * drawn.experiment.model.parameters()["weight_ih_l0"].data
    np.testing.assert_allclose(one.end.x, gradient_flow(scaled, x).end.x, rtol=1e-12)


def dead_relu():
    """Biases of -1 let no unit open; of default ones h grows, from nothing, beyond 10."""
    net = tg.RNNCell(3, 16, "relu", rng=0, init={"weight_hh": nn.init.identity()})
    net.bias_ih.data = np.array(net.bias_ih.data) - 1
    return gradient_flow(net, noise(40, 4, 3))


def test_each_pair_is_told_once_and_what_speaks_against_a_cause_beside_it():
    flow = dead_relu()
    trials = flow.verdict.trials
    assert len({label_of(t.changes) for t in trials}) == len(trials)
    assert all("bias" not in t.changes or t.changes.get("redraw") != "biases" for t in trials)  # which it would undo
    biases = flow.verdict.undone["biases"]
    assert biases.refused and f"biases (put back: {biases.after.word}, " in flow.verdict.cause
    assert f"but {biases.refused})" in flow.verdict.cause


def judged(D, word="fading"):
    return Judgement(word, D, 0.0, 40, 0, None, "")


@pytest.mark.parametrize(
    "D, largest, saturated, said",
    [
        (-1.0 - LITTLE, 1.0, 0.0, "overshoots"),
        (-1.0 + LITTLE, 1.0, 0.0, ""),
        (1.5, 10 + LITTLE, 0.0, "grows"),
        (1.5, 10 - LITTLE, 0.0, ""),
        (1.5, 1.0, 0.5 + LITTLE, "saturates"),
        (1.5, 1.0, 0.5 - LITTLE, ""),
    ],
)
def test_what_speaks_against_a_change(D, largest, saturated, said):
    was, now = end(straight(3.0)), end(straight(D), largest=largest, saturated=saturated)
    against = objection(judged(3.0), [was], judged(D), [now])
    assert said in against and bool(said) == bool(against)
    trial = Trial({"bias": 1.0}, judged(3.0), judged(D, "healthy"), against)
    assert trial.heals == (not said) and (not said or "refused" in str(trial))


def test_a_larger_state_is_no_objection_where_it_was_large_before():
    was, now = end(straight(3.0), largest=5.0), end(straight(1.0), largest=14.9)
    assert objection(judged(3.0), [was], judged(1.0), [now]) == ""
    assert objection(judged(3.0), [was], judged(1.0), [dataclasses.replace(now, largest=15.1)])


def test_trained_weights_are_never_told_to_begin_anew():
    net, x = stack("lstm", 1, False, 2), noise(60, 3, 3)
    flow = gradient_flow(net, x, trained=True)
    assert flow.verdict.trials == () and "does your task need more than" in flow.text() and "default" in flow.text()
    loud = gradient_flow(net, 1000 * x, trained=True)
    assert {name for t in loud.verdict.trials for name in t.changes} <= {"standardise"}
    assert "as given" in gradient_flow(net, x).text() and "after training" in flow.text()


def test_a_graph_that_is_there_already_has_a_verdict_and_no_changes():
    outputs, _ = tg.unroll(tg.LSTMCell(3, 8, rng=0), noise(60, 2, 3))
    flow = gradient_flow(tg.sum(outputs[-1]))
    assert flow.word == "vanishing" and flow.verdict.trials == ()
    with pytest.raises(ValueError, match="cannot be changed"):
        flow.what_if(weight_scale=2.0)


class Own:
    """A cell of one's own: h' = tanh(a x + w h), one unit a feature."""

    def __init__(self, w):
        self.a, self.w = tg.Tensor(np.ones(2), requires_grad=True), tg.Tensor(np.full(2, w), requires_grad=True)

    def parameters(self):
        return {"a": self.a, "w": self.w}

    def initial_state(self, batch):
        return tg.Tensor(np.zeros((batch, 2)))

    def __call__(self, x, h):
        return tg.tanh(self.a * x * 0.01 + self.w * h)


def test_parameters_of_a_cell_of_ones_own_are_scaled_one_by_one():
    flow = gradient_flow(Own(0.5), noise(40, 2, 2))
    best = flow.verdict.trials[0]
    assert flow.word == "vanishing" and best.heals and best.changes["scale"].keys() == {"w"}
    np.testing.assert_allclose(best.changes["scale"]["w"], 2.0, rtol=0.15)
    assert "own cells only" in flow.verdict.cause and f"w × {best.changes['scale']['w']:.3g}" in str(best)


class Named(Own):
    """One with a parameter whose name looks like code."""

    name = "w\", n)}: raise SystemError  # '\n"

    def __init__(self):
        super().__init__(0.5)

    def parameters(self):
        return {"a": self.a, self.name: self.w}


def pasted(flow, changes, torch=False, **given):
    """What `model` and `inputs` are when the lines of a report have run."""
    found = {"model": flow.experiment.model, "inputs": flow.experiment.inputs, **given}
    trial = Trial(checked(changes), flow.judgement, flow.judgement, "")
    exec(flow.lines(trial, torch), found)
    return found["model"], found["inputs"]


def test_a_parameters_name_is_text_in_the_lines_to_paste():
    flow = gradient_flow(Named(), noise(9, 2, 2))
    model, _ = pasted(flow, {"scale": {Named.name: 2.0}})
    assert (model.w.data == 1.0).all() and (model.a.data == 1.0).all()
    with pytest.raises(ValueError, match="PyTorch has no"):
        pasted(flow, {"scale": {Named.name: 2.0}}, torch=True)


def tried(model, steps=30, **asked):
    """What is tried of each change, by its name."""
    flow = gradient_flow(model, noise(steps, 2, 3), **asked)
    return {name: values for _, name, values in families(flow.experiment, steps) if name != "redraw"}


def test_factors_are_tried_over_decades_from_the_gentlest_on():
    """Inputs that are a hundred thousand times too large, and weights that are a hundredth of what they should be."""
    found = tried(tg.LSTM(3, 5, 2, rng=0))
    assert (min(found["input_scale"]), max(found["input_scale"])) == (1e-5, 100.0)
    assert (min(found["weight_scale"]), max(found["weight_scale"])) == (0.0316, 10.0)
    assert (min(found["layer_scale"]), max(found["layer_scale"])) == (0.316, 17.8)
    for name in ("input_scale", "weight_scale", "layer_scale"):
        far = [round(abs(np.log10(factor)), 2) for factor in found[name]]
        assert far == sorted(far) and 0 < far[0] < 0.6 and 1.0 not in found[name]
        steps = np.diff(np.log10(sorted([*found[name], 1.0])))
        np.testing.assert_allclose(steps, steps[0], atol=2e-3)  # evenly, as far as three digits say
    (own,) = (
        values for name, _, values in families(gradient_flow(Own(0.5), noise(9, 2, 2)).experiment, 9) if name == "w"
    )
    assert (min(own), max(own)) == (0.01, 31.6)


def test_what_is_tried_is_what_a_network_has():
    lstm, gru, rnn = tried(tg.LSTMCell(3, 5, rng=0)), tried(tg.GRUCell(3, 5, rng=0)), tried(tg.RNNCell(3, 5, rng=0))
    biases = {"chrono", "gate_bias", "forget_bias", "input_bias", "output_bias", "update_bias", "bias"}
    assert biases & {*lstm} == {"chrono", "gate_bias", "forget_bias", "input_bias", "output_bias"}
    assert biases & {*gru} == {"update_bias"} and biases & {*rnn} == {"bias"}
    assert biases & {*tried(tg.LSTMCell(3, 5, forget_gate=False, rng=0))} == {"input_bias", "output_bias"}
    assert [*lstm][:3] == ["chrono", "gate_bias", "forget_bias"]  # both gates first
    assert lstm["chrono"] == (29, 58, 116) and tried(tg.LSTMCell(3, 5, rng=0), lag=7)["chrono"] == (7, 14, 28)
    assert rnn["nonlinearity"] == ("relu",) and tried(tg.RNNCell(3, 5, "relu", rng=0))["nonlinearity"] == ("tanh",)
    assert ("orthogonal" in rnn, "orthogonal" in lstm, "nonlinearity" in gru) == (True, False, False)


def test_every_change_has_its_words():
    values = {"scale": {"w": 2.0}, "nonlinearity": "relu", "redraw": "biases", "standardise": True, "chrono": 9}
    for name in CHANGES:
        assert label_of({name: values.get(name, 0.5)}) and name in GradientFlow.what_if.__doc__
    with pytest.raises(TypeError, match="change one or more"):
        gradient_flow(Own(0.5), noise(9, 2, 2)).what_if(weight=2.0)


def test_each_cell_gets_the_biases_of_its_own_gates():
    """Those of an LSTM without a forget gate stand elsewhere than those of one that has it."""

    class Two(nn.Module):
        def __init__(self):
            self.parts = [tg.LSTM(3, 5, forget_gate=False, rng=0), tg.LSTM(5, 4, rng=1)]

        def __call__(self, x):
            return self.parts[1](self.parts[0](x)[0])[0]

    flow = gradient_flow(net := Two(), noise(30, 2, 3))
    found = list(flow.what_if(output_bias=2.0).flows.values())[1].experiment.model.state_dict()
    for name, before in net.state_dict().items():
        expected, (_, k, *_) = np.array(before), name.split(".")
        if "bias" in name:
            expected[slice(10, 15) if k == "0" else slice(12, 16)] = 2.0 * ("bias_ih" in name)
        np.testing.assert_array_equal(found[name], expected)
    assert "output_bias" in tried(net) and "forget_bias" not in tried(net)
    for change, gate in {"forget_bias": "with gate f", "chrono": "gate f and i", "bias": "simple RNN cells"}.items():
        with pytest.raises(ValueError, match=f"{change} is for .*{gate}: not for LSTMCell"):
            flow.what_if(**{change: 9})


PASTED = [
    ("lstm", {"chrono": 20}),
    ("lstm", {"gate_bias": 3.0, "weight_scale": 1.5}),
    ("lstm", {"output_bias": 2.0, "standardise": True}),
    ("gru", {"update_bias": 3.0, "input_scale": 0.1}),
    ("rnn", {"nonlinearity": "relu", "orthogonal": 1.4}),
    ("rnn", {"layer_scale": 2.0, "bias": 0.5}),
    ("gru", {"redraw": "biases"}),
]


@pytest.mark.parametrize("kind, changes", PASTED)
@pytest.mark.parametrize("torch", [False, True])
def test_the_lines_to_paste_do_what_was_measured(kind, changes, torch):
    x = 3.0 + 5.0 * noise(20, 2, 3)
    net = nn.RNN(3, 5, 2, rng=1) if kind == "rnn" else stack(kind, 2, False, 1)
    flow = gradient_flow(net, x)
    expected = list(flow.what_if(**changes).flows.values())[1]
    if torch:
        from_torch = pytest.importorskip("torch")
        theirs = getattr(from_torch.nn, type(net).__name__)(3, 5, 2, dtype=from_torch.float64)
        theirs.load_state_dict({name: from_torch.tensor(array) for name, array in net.state_dict().items()})
        model, inputs = pasted(flow, changes, True, model=theirs, inputs=from_torch.tensor(x))
        model, inputs = nn.from_torch(model), inputs.numpy()
    else:
        model, inputs = pasted(flow, changes)
    assert gradient_flow(model, inputs).decades_lost == pytest.approx(expected.decades_lost, rel=1e-9)


# --- whatever the network ---


def any_network(seed):
    """Cells, stacks and modules of two stacks, with whatever options, inputs, loss, lag and lengths."""
    rng = np.random.default_rng([21, seed])
    kind, form = str(rng.choice(["RNN", "LSTM", "GRU"])), str(rng.choice(["cell", "stack", "stack", "module"]))
    H, size, T, B = int(rng.integers(2, 9)), int(rng.integers(1, 4)), int(rng.choice([2, 3, 5, 9, 16, 30])), 3
    options = {"dtype": str(rng.choice(["float32", "float64"])), "bias": bool(rng.random() < 0.8)}
    if kind == "RNN":
        options["nonlinearity"] = str(rng.choice(["tanh", "relu", "sigmoid", "identity"]))
    if (kind, form) == ("LSTM", "cell"):
        options["forget_gate"] = bool(rng.random() < 0.7)
    layers, both, batch_first = int(rng.integers(1, 3)), bool(rng.random() < 0.4), bool(rng.random() < 0.3)
    net = getattr(nn, kind)

    class Model(nn.Module):
        def __init__(self, seed):
            self.parts = [net(size, H, layers, rng=seed, **options), net(H, H + 1, rng=seed, **options)]
            self.head = nn.Linear(H + 1, 2, rng=seed)

        def __call__(self, x):
            for part in self.parts:
                x = part(x)[0]
            return self.head(x)

    def build(seed):
        if form == "module":
            return Model(seed)
        more = {"num_layers": layers, "bidirectional": both, "batch_first": batch_first} if form == "stack" else {}
        return getattr(nn, kind + "Cell" * (form == "cell"))(size, H, rng=seed, **more, **options)

    model, gain, drive = build(seed), 10 ** rng.uniform(-1, 1), 10 ** rng.uniform(-3, 2)
    for name, p in model.parameters().items():
        factor = gain if "weight_hh" in name else drive if "weight_ih" in name else 1.0
        p.data = np.array(p.data) * factor + (rng.choice([0.0, 0.0, -8.0, 4.0]) if "bias_ih" in name else 0.0)
    x = rng.normal(size=(T, B, size)) * 10 ** rng.uniform(-1, 2) + rng.choice([0.0, 0.0, 30.0])
    asked = {"loss": ["last", "last", "all", lambda y: tg.mean((tg.tanh(y) - 0.5) ** 2)][rng.integers(4)]}
    if rng.random() < 0.3:
        asked["lag"] = int(rng.integers(1, T))
    if form != "module" and rng.random() < 0.3:
        asked["lengths"] = np.array([T, *rng.integers(2, T + 1, size=B - 1)])
    return build, model, x.transpose(1, 0, 2) if form == "stack" and batch_first else x, asked


def check_what_is_printed(seed):
    build, model, x, asked = any_network(seed)
    flow = gradient_flow(model, x, **asked)
    for trial in flow.verdict.trials:
        fresh = build(seed + 1000)
        fresh.load_state_dict(model.state_dict())
        found = {"model": fresh, "inputs": x, "lengths": asked.get("lengths")}
        exec(flow.lines(trial), found)
        again = gradient_flow(found["model"], found["inputs"], **asked)
        printed = re.search(r"D from \S+ to (\S+), ", str(trial))
        assert printed and printed[1] == in_decades(again.decades_lost), (str(trial), again.judgement)
        assert again.word == trial.after.word
    return len(flow.verdict.trials)


@pytest.mark.parametrize("seed", [0, 9, 14])
def test_a_printed_change_on_a_network_built_anew_gives_the_printed_number(seed):
    assert check_what_is_printed(seed)


@pytest.mark.parametrize(
    "seed", [pytest.param(k, marks=pytest.mark.full if k % 4 else pytest.mark.slow) for k in range(40)]
)
def test_every_printed_change_on_any_network_built_anew_gives_the_printed_number(seed):
    check_what_is_printed(seed)


def test_only_what_learns_is_a_cure():
    flow = gradient_flow(tg.LSTMCell(3, 8, rng=0), noise(50, 3, 3))
    healing = [trial for trial in flow.verdict.trials if trial.heals]
    seen = []

    def train(model):
        seen.append(model)
        return np.linspace(1.0, (0.9, 0.5, 0.81, 0.1)[len(seen) - 1], 20)

    found = cure(flow, train, most=2)
    assert [run.label for run in found.runs] == ["as it is", *(trial.label for trial in healing[:2])]
    assert [run.learns for run in found.runs] == [False, True, False] and found.cures == found.runs[1:2]
    assert "LEARNS" in str(found) and "does not learn" in str(found)
    assert found.below == pytest.approx(0.8 * np.median(np.linspace(1.0, 0.9, 20)[:2]))
    for model, changes in zip(seen, ({}, *(t.changes for t in healing)), strict=False):
        expected = list(flow.what_if(**changes).flows.values())[1] if changes else flow
        assert gradient_flow(model, noise(50, 3, 3)).decades_lost == expected.decades_lost
    seen.clear()
    assert cure(flow, train, below=0.95).cures == ()  # it learns as it is
    with pytest.raises(ValueError, match="cannot be trained"):
        cure(gradient_flow(tg.sum(nn.GRU(3, 4, rng=0)(noise(9, 2, 3))[0])), train)


@pytest.mark.full
def test_the_two_gate_biases_learn_and_one_alone_does_not():
    task = Adding(50, minimal_lag=True)

    def train(network):
        model = SequenceModel(network, task, rng=0)
        options = {"clip_norm": 1.0, "seed": 0, "derived": True, "progress": False}
        return fit(model, task, Adam(model, lr=0.01), 600, **options).losses

    flow = gradient_flow(tg.LSTMCell(2, 32, rng=0), task.batch(np.random.default_rng(0), 16)[0])
    found = cure(flow, train, below=0.8 * task.baseline)
    assert [run.learns for run in found.runs] == [False, True, True, False]
    assert "chrono" in found.runs[1].changes and "forget_bias" in found.runs[3].changes


# --- the report ---


def test_csv_and_one_file_for_a_colleague(tmp_path):
    flow = gradient_flow(tg.LSTMCell(3, 8, rng=0), noise(60, 2, 3))
    flow.save(tmp_path / "flow.csv")
    rows = list(csv.DictReader((tmp_path / "flow.csv").read_text("utf-8").splitlines()))
    assert [float(row["log10 dL/dh"]) for row in rows] == [row["log10 dL/dh"] for row in flow.table()]
    flow.save(tmp_path / "flow.html", title="<ours & theirs>")
    page = (tmp_path / "flow.html").read_text("utf-8")
    assert "&lt;ours &amp; theirs&gt;" in page and "VANISHING" in page and "chrono" in page and "torch" in page
    assert not re.search(r"(src|href)=[\"'](?!#)", page)  # nothing is loaded
    assert gradient_flow(Own(0.5), noise(9, 2, 2))._repr_html_().count("<pre>") >= 1


def test_the_json_says_how_to_measure_it_again():
    net, x = stack("lstm", 1, False, 2), noise(24, 2, 3)
    flow = gradient_flow(net, x, lag=20)
    data = json.loads(flow.to_json())
    assert data["verdict"]["word"] == flow.word and data["verdict"]["lag"] == 20
    for trial in data["verdict"]["trials"]:
        other = list(flow.what_if(**trial["changes"]).flows.values())[1]
        assert other.decades_lost == trial["after"]["decades"]
    again = json.loads(gradient_flow(stack("lstm", 1, False, 2), x, lag=20).to_json())
    assert data == again
    moved = gradient_flow(net, x + 1e-9, lag=20).to_dict()["measured"]
    assert data["measured"]["weights"] == moved["weights"] and data["measured"]["inputs"] != moved["inputs"]


def test_every_healthy_says_what_it_cannot_see():
    flow = gradient_flow(tg.LSTMCell(3, 16, init="chrono", t_max=30, rng=0), noise(30, 3, 3))
    assert flow.word == "healthy" and flow.verdict.cause == flow.verdict.remedy == ""
    for unseen in ("learning rate", "targets", "shuffling", "padding", "axis"):
        assert unseen in flow.text()


def test_words_are_all_there_are():
    assert set(WORDS) >= {"nothing enters", "nothing leaves", "dies in depth", "grows then dies", "cannot tell"}


def test_a_cause_is_what_brings_a_network_half_of_the_way_back():
    """Recurrent weights of 1.3 explode, whatever the biases are: the others move D by little."""
    net = nn.RNN(3, 8, nonlinearity="relu", rng=0)
    net.load_state_dict(net.state_dict() | {"weight_hh_l0": 1.3 * np.eye(8)})
    flow = gradient_flow(net, noise(40, 2, 3))
    assert flow.word == "growing" and flow.verdict.causes == ("recurrent weights",)


def test_networks_that_lose_much_are_not_like_one_that_lets_nothing_through():
    net = nn.RNN(3, 8, nonlinearity="relu", rng=0)
    net.load_state_dict({name: a - 50 * (a.ndim == 1) for name, a in net.state_dict().items()})
    flow = gradient_flow(net, noise(40, 2, 3))
    assert flow.word == "nothing leaves" and {j.word for j in flow.verdict.default} != {flow.word}
    assert "default networks do the same" not in flow.verdict.cause

"""A run that is killed and resumed is, bit for bit, the run that was never killed."""

import json
import os
import subprocess
import sys
import time

import numpy as np
import pytest

import tinygrad_rnn as tg
from tinygrad_rnn import nn
from tinygrad_rnn.train import SGD, Adagrad, Adam, Adding, RMSprop, SequenceModel, Text, every, fit

KINDS = {
    "adam": lambda m, lr: Adam(m, lr=lr),
    "sgd": lambda m, lr: SGD(m, lr=lr, momentum=0.9),
    "rmsprop": lambda m, lr: RMSprop(m, lr=lr, alpha=0.9),
    "adagrad": lambda m, lr: Adagrad(m, lr=lr),
}


def run(steps, path=None, resume=False, kind="adam", network=None, task=None, seed=3, lr=0.01, **options):
    task = task or Adding(8)
    if network is None:
        network = nn.LSTM(task.inputs, 4, num_layers=2, dropout=0.3, rng=0)
    model = SequenceModel(network, task, rng=1)
    options = {"batch_size": 4, "clip_norm": 1.0, "evaluate_every": 5, "progress": False, **options}
    options |= {"callbacks": [every(3, lambda run: {"seen": run.loss})]}
    history = fit(model, task, KINDS[kind](model, lr), steps, checkpoint=path, resume=resume, seed=seed, **options)
    return model.state_dict(), history


def same(one, other):
    assert one[1] == other[1]
    for name, array in one[0].items():
        np.testing.assert_array_equal(array, other[0][name])


@pytest.mark.parametrize("kind", KINDS)
def test_resumed_is_bit_for_bit_the_same(kind, tmp_path):
    path = tmp_path / "c.npz"
    whole = run(17, kind=kind)
    run(7, path, kind=kind)
    same(run(17, path, resume=True, kind=kind), whole)
    same(run(17, path, resume=True, kind=kind), whole)  # nothing is left to do
    assert [file.name for file in tmp_path.iterdir()] == ["c.npz"]


@pytest.mark.parametrize("network", [lambda v: tg.LSTMCell(v, 5, rng=0), lambda v: nn.GRU(v, 5, 2, rng=0)])
def test_state_that_is_carried_over_is_kept(network, tmp_path):
    task, path = Text("the quick brown fox jumps over the lazy dog", length=6), tmp_path / "c.npz"
    whole = run(10, task=task, network=network(task.inputs))
    run(4, path, task=task, network=network(task.inputs))
    same(run(10, path, resume=True, task=task, network=network(task.inputs)), whole)


@pytest.mark.parametrize("options", [{"nonlinearity": "relu"}, {"dropout": 0.5}])
def test_a_network_that_computes_otherwise_does_not_go_on(options, tmp_path):
    def network(**options):
        return nn.RNN(2, 4, 2, rng=0, **({"dropout": 0.3} | options))

    run(4, tmp_path / "c.npz", network=network())
    with pytest.raises(ValueError, match="belongs to another run: model was"):
        run(6, tmp_path / "c.npz", resume=True, network=network(**options))


class Packed:
    """A GRU whose state is a tuple of one."""

    def __init__(self, size):
        self.cell = tg.GRUCell(size, 5, rng=0)
        self.input_size, self.hidden_size, self.dtype = size, 5, self.cell.dtype

    def parameters(self):
        return self.cell.parameters()

    def initial_state(self, batch):
        return (self.cell.initial_state(batch),)

    def __call__(self, x, state):
        return (self.cell(x, *state),)

    def __repr__(self):
        return "Packed()"


@pytest.mark.parametrize("derived", [False, True])
def test_a_state_that_is_a_tuple_of_one_stays_one(derived, tmp_path):
    task, path = Text("the quick brown fox jumps over the lazy dog", length=6), tmp_path / "c.npz"
    bare = run(10, task=task, network=tg.GRUCell(task.inputs, 5, rng=0), derived=derived)
    run(4, path, task=task, network=Packed(task.inputs), derived=derived)
    again = run(10, path, resume=True, task=task, network=Packed(task.inputs), derived=derived)
    assert again[1].losses == pytest.approx(bare[1].losses, rel=1e-12)


def test_float32_and_a_generator_of_ones_own(tmp_path):
    def one(steps, path=None, resume=False):
        network = tg.GRUCell(2, 4, dtype=np.float32, rng=0)
        return run(steps, path, resume, network=network, seed=np.random.Generator(np.random.MT19937(5)))

    whole = one(9)
    one(4, tmp_path / "c.npz")
    same(one(9, tmp_path / "c.npz", True), whole)


def test_an_old_checkpoint_is_not_written_over(tmp_path):
    path = tmp_path / "c.npz"
    run(3, path)
    content = path.read_bytes()
    with pytest.raises(ValueError, match=r"c\.npz is there already: resume=True"):
        run(3, path)
    assert path.read_bytes() == content
    with pytest.raises(ValueError, match=r"ends in \.npz"):
        run(3, tmp_path / "c.pt")
    with pytest.raises(ValueError, match="needs to know the checkpoint"):
        run(3, resume=True)
    with pytest.raises(OSError):
        run(3, tmp_path / "no" / "c.npz")


DIFFERENT = {
    "batch_size was 4, now 5": {"batch_size": 5},
    "clip_norm was 1.0, now None": {"clip_norm": None},
    "seed was 3, now 4": {"seed": 4},
    "optimiser was 'Adam": {"kind": "sgd"},
    "task was 'adding, T=8', now 'adding, T=9'": {"task": Adding(9)},
    "lr was 0.01, now 0.02": {"lr": 0.02},
    "'network.weight_hh_l0': 'float64 (16, 4)'": {"network": nn.LSTM(2, 4, 2, dropout=0.3, dtype=np.float32, rng=0)},
    "model was": {"network": nn.LSTM(2, 5, num_layers=2, dropout=0.3, rng=0)},
}


@pytest.mark.parametrize(("words", "options"), DIFFERENT.items(), ids=lambda v: str(v)[:20])
def test_a_checkpoint_of_another_run_is_refused(words, options, tmp_path):
    path = tmp_path / "c.npz"
    run(3, path)
    with pytest.raises(ValueError, match="belongs to another run") as told:
        run(9, path, resume=True, **options)
    assert words in str(told.value)


def test_texts_that_differ_only_inside_are_told_apart(tmp_path):
    network = lambda: tg.GRUCell(3, 4, rng=0)  # noqa: E731
    run(3, tmp_path / "c.npz", task=Text("abcabcabcabc", 3), network=network())
    with pytest.raises(ValueError, match="its data"):
        run(3, tmp_path / "c.npz", True, task=Text("abcabcabcacb", 3), network=network())


def test_damaged_checkpoints_are_clear_errors_and_change_nothing(tmp_path):
    path = tmp_path / "c.npz"
    run(3, path)
    content = path.read_bytes()
    path.with_name("good.npz").write_bytes(content)
    nn.save(path, {"weight": np.ones(2)})
    others = [path.read_bytes()]
    for damage in ({"step": 1}, [], {"step": "x", "identity": {}, "history": {}, "rng": []}):
        nn.save(path, {"about": np.frombuffer(json.dumps(damage).encode(), np.uint8)})
        others.append(path.read_bytes())
    arrays = nn.load(path.with_name("good.npz"))
    about = json.loads(arrays["about"].tobytes())
    good = about["rng"]
    damages = [{"rng": rng} for rng in ([], [{}] * 2, [{"bit_generator": "PCG64", "state": {}}] * 2, [good[0], {}])]
    for damage in [*damages, {"state": [None] * 3}]:
        text = json.dumps(about | damage).encode()
        nn.save(path, arrays | {"about": np.frombuffer(text, np.uint8)})
        others.append(path.read_bytes())
    nn.save(path, arrays | {"model/head.bias": np.ones(7)})
    others.append(path.read_bytes())
    for lost in ("model/head.bias", "optimiser/lr", "optimiser/head.bias/step"):
        nn.save(path, {name: array for name, array in arrays.items() if name != lost})
        others.append(path.read_bytes())
    for wrong in [b"", b"junk", content[:-1], content[: len(content) // 2], *others]:
        path.write_bytes(wrong)
        network = nn.LSTM(2, 4, num_layers=2, dropout=0.3, rng=0)
        before, drawn = SequenceModel(network, Adding(8), rng=1).state_dict(), network.rng.bit_generator.state
        with pytest.raises(ValueError, match=r"c\.npz (is damaged|is no checkpoint)"):
            run(5, path, resume=True, network=network)
        assert network.rng.bit_generator.state == drawn
        model = SequenceModel(network, Adding(8), rng=1)
        for name, array in model.state_dict().items():
            np.testing.assert_array_equal(array, before[name])
        assert path.read_bytes() == wrong


SCRIPT = """
import sys, time
import tinygrad_rnn as tg
from tinygrad_rnn import nn
from tinygrad_rnn.train import Adam, Adding, SequenceModel, fit

task = Adding(8)
model = SequenceModel(nn.LSTM(2, 4, num_layers=2, dropout=0.3, rng=0), task, rng=1)
fit(model, task, Adam(model, lr=0.01), 60, batch_size=4, checkpoint="c.npz", checkpoint_every=1, resume=True,
    progress=False, callbacks=[lambda run: print(run.step, flush=True) or sys.stdin.readline()])
nn.save("weights.npz", model.state_dict())
"""


@pytest.mark.slow
def test_killed_process(tmp_path):
    """Killed again and again, between any two instructions, a checkpoint written after every step.

    It waits for a line after each step, so that no machine is too fast or too slow to kill it in time.
    """
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    task = Adding(8)
    model = SequenceModel(nn.LSTM(2, 4, num_layers=2, dropout=0.3, rng=0), task, rng=1)
    fit(model, task, Adam(model, lr=0.01), 60, batch_size=4, progress=False)
    firsts, killed = [], 0
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    for after in (1, 7, 5, None):
        process = subprocess.Popen(
            [sys.executable, "-P", "-c", SCRIPT], cwd=tmp_path, env=environment, text=True, bufsize=1, **pipes
        )
        lines = []
        for line in process.stdout:
            lines.append(int(line))
            process.stdin.write("\n")
            if len(lines) == after:
                time.sleep(0.0005 * after)
                process.kill()  # SIGKILL where there are signals, TerminateProcess elsewhere
                break
        process.stdout.close()
        process.stdin.close()
        code = process.wait()
        killed += code != 0
        firsts.append(lines[0])
    assert code == 0 and killed == 3 and firsts[0] == 1 and firsts[-1] > 1
    for name, array in nn.load(tmp_path / "weights.npz").items():
        np.testing.assert_array_equal(array, model.state_dict()[name])

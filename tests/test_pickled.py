"""What comes out of the package goes into a file, to another process, and into a copy, and is the same there."""

import copy
import importlib
import inspect
import pickle

import numpy as np
import pytest

import tinygrad_rnn as tg
from tinygrad_rnn import atlas, data, diagnose, nn, testing, train

X = np.random.default_rng(0).normal(size=(8, 2, 3))
PARTS = ("", "draw", "graph", "train", "testing", "atlas", "diagnose", "bptt", "data", "nn")


def loss():
    return tg.sum(tg.unroll(tg.GRUCell(3, 4, rng=0), X)[0][-1])


class Model(nn.Module):
    def __init__(self):
        self.rnn, self.head = nn.LSTM(3, 4, rng=0), nn.Linear(4, 1, rng=0)

    def __call__(self, x):
        return self.head(self.rnn(x)[0])


def flow():
    return diagnose.gradient_flow(tg.LSTMCell(3, 4, rng=0), X)


def checked():
    def wrong(x):
        return tg.tanh(x)

    return testing.gradcheck(wrong, np.ones(3))


def trained():
    task = train.Adding(5)
    model = train.SequenceModel(tg.RNNCell(2, 4, rng=0), task, rng=0)
    return train.fit(model, task, train.Adam(model), steps=3, progress=False)


RESULTS = {
    "GradientFlow": flow,
    "GradientFlow of a graph": lambda: diagnose.gradient_flow(loss()),
    "GradientFlow of both directions": lambda: diagnose.gradient_flow(nn.RNN(3, 4, bidirectional=True, rng=0), X),
    "GradientFlow of a module": lambda: diagnose.gradient_flow(Model(), X),
    "GradientFlow of lengths": lambda: diagnose.gradient_flow(nn.GRU(3, 4, rng=0), X, "all", lengths=[8, 5]),
    "Verdict": lambda: flow().verdict,
    "Comparison": lambda: diagnose.compare({"a": tg.RNNCell(3, 4, rng=0), "b": tg.GRUCell(3, 4, rng=0)}, X),
    "Cure": lambda: diagnose.cure(flow(), lambda model: [1.0, 0.5], most=1),
    "Spectrum": lambda: diagnose.jacobian_spectrum(tg.RNNCell(3, 4, rng=0), X)[0],
    "Picture": lambda: tg.draw(loss()),
    "Picture of the loop": lambda: tg.draw(loss(), view="rolled"),
    "Picture of two": lambda: tg.draw_side_by_side(loss(), loss()),
    "GradientThroughTime": lambda: tg.gradient_through_time(loss()),
    "GradientGraph": lambda: tg.gradient_graph(loss()),
    "Edge": lambda: tg.gradient_graph(loss()).edges[0],
    "Node": lambda: tg.gradient_graph(loss()).nodes[0],
    "Scale": lambda: tg.draw(loss()).scale,
    "GradcheckResult": checked,
    "Report": lambda: testing.check_cell(tg.RNNCell(3, 4, rng=0)),
    "History": trained,
    "Boundary": lambda: atlas.Boundary(1.0, "bound"),
    "Grid": lambda: atlas.grid(x=[1, 2], y=["a"]),
    "Table": lambda: atlas.Table(("x", "y"), ((1, "a"), (2, "b"))),
    "Data": lambda: data.Data(X[:, 0], "series"),
    "Dialect": lambda: data.Dialect(","),
}
NO_RESULTS = """
    GRU LSTM RNN Embedding GRUCell LSTMCell Linear Module Primitive RNNCell Tensor no_grad scope SGD Adagrad Adam Adding
    Copying Optimiser RMSprop Run SequenceModel Series Task TemporalOrder Text every FlowProbe Film Program
""".split()  # models, tasks and tools


def told(result):
    """All that a result says."""
    ways = ("to_dict", "to_csv", "text", "svg", "table", "_repr_html_")
    says = [getattr(result, way)() for way in ways if callable(getattr(result, way, None))]
    return [str(result), *map(str, says)]


@pytest.mark.parametrize("name", RESULTS)
@pytest.mark.parametrize(
    "way", [lambda result: pickle.loads(pickle.dumps(result)), copy.deepcopy], ids=["pickle", "copy"]
)
def test_a_result_comes_back_from_a_file_as_it_was(name, way):
    result = RESULTS[name]()
    assert told(way(result)) == told(result)


def test_every_public_class_of_results_is_among_them():
    modules = [importlib.import_module(".".join(filter(None, ("tinygrad_rnn", part)))) for part in PARTS]
    public = [getattr(module, name) for module in modules for name in module.__all__]
    classes = {c.__name__ for c in public if inspect.isclass(c) and not issubclass(c, BaseException)}
    assert classes - {name.split()[0] for name in RESULTS} == {*NO_RESULTS}


def test_what_is_loaded_can_still_be_asked():
    loaded = pickle.loads(pickle.dumps(flow()))
    assert str(loaded.what_if(forget_bias=3.0)) == str(flow().what_if(forget_bias=3.0))
    assert loaded.without("carried").logs.tolist() == flow().without("carried").logs.tolist()

"""Options are checked where they are given: every option of every public callable, with good and bad values.

A row of the table is a callable with one option free. Whatever is bad for its kind of option must be refused at once,
in one line that names the option; whatever is good, NumPy's scalars included, must be taken. What is neither in the
table nor among the arguments that are no options fails a test.
"""

import inspect
import math

import numpy as np
import pytest

import tinygrad_rnn as tg
from tinygrad_rnn import atlas, diagnose, nn, train
from tinygrad_rnn.arguments import ArgumentError
from tinygrad_rnn.atlas.networks import network
from tinygrad_rnn.draw import draw, gradient_through_time

NAN, INF = math.nan, math.inf
NO_NUMBER = (True, np.True_, "1", None, NAN, 1j, [0.5], np.ones(2), tg.Tensor(0.5))


class Values:
    """Bad and good values of one kind of option."""

    def __init__(self, bad, good):
        self.bad, self.good = tuple(bad), tuple(good)

    def without(self, *values):
        """The same where some of the bad ones mean something."""
        return Values([b for b in self.bad if not any(b is v for v in values)], [*self.good, *values])


FLAG = Values(
    ("no", "False", 2, 1, 0, None, 1.0, NAN, np.int64(1), [True], np.ones(2, bool)),
    (True, False, np.True_, np.array(False)),
)
FINITE = Values((*NO_NUMBER, INF, -INF, 10**400), (-1.5, 0, 2, np.float32(0.5), np.int8(1), np.array(1.0)))
NOT_NEGATIVE = Values((*NO_NUMBER, INF, -1, -1e-9), (0, 0.5, 2, np.float32(0.5), np.int8(1), np.array(1.0)))
POSITIVE = Values((*NO_NUMBER, 0, -1, 0.0), (0.5, 2, np.float32(0.5), np.int8(1), np.array(1.0), INF))
FROM_0_TO_1 = Values((*NO_NUMBER, INF, -0.1, 1.1, 2, -1), (0, 1, 0.5, np.float32(0.5), np.array(1.0)))
BELOW_1 = Values((*NO_NUMBER, INF, -0.1, 1, 1.1), (0, 0.5, np.float32(0.5), np.array(0.9)))
NO_BETAS = (
    (0.9,),
    (),
    0.9,
    "ab",
    None,
    (0.9, 0.99, 0.999),
    (0.9, 1.0),
    (-0.1, 0.9),
    (NAN, 0.9),
    (True, 0.9),
    ("0.9", 0.99),
)
BETAS = Values(
    (*NO_BETAS, {0.9, 0.99}, {0.9: 1, 0.99: 2}, iter((0.9, 0.99))),  # of the last three, none has an order to look up
    ((0.9, 0.99), [0, 0.5], np.array([0.9, 0.999])),
)
BIAS = Values(  # of the three units that every cell here has
    (True, "1", NAN, INF, 1j, [0.5], np.ones(4), np.ones((1, 3)), [1.0, "2", 3], [1.0, NAN, 2.0], [[1.0], [2.0, 3.0]]),
    (None, 1, -2.5, np.float32(1), np.int64(2), np.ones(3), [1, 2, 3], np.array(1.0)),
)
DTYPE = Values(
    ("int64", int, bool, np.float16, np.longdouble, complex, object, "double precision", 3, True, [("x", float)]),
    ("float32", np.float64, float, "f4", np.dtype(">f8"), np.float32),
)
RNG = Values(("0", 1.5, -1, True, np.True_, NAN, np.random, [0.5]), (0, np.int64(3), None, np.random.default_rng(0)))


def whole(least):
    bad = (True, np.True_, 1.5, float(least + 1), "3", None, NAN, 1j, [least], np.ones(2, int), tg.Tensor(2.0))
    return Values(
        (*bad, least - 1, np.int64(least - 1)), (least, np.int64(least + 1), np.uint8(least), np.array(least + 2))
    )


def several(least):
    bad = (least + 1, "12", None, [True], [1.5], [least - 1], [NAN], ["1"])
    return Values(bad, ([least], [np.int64(least), least + 1], np.array([least]), range(least, least + 2)))


def words(*good):
    return Values(("nope", good[0].swapcase(), "", None, 5, True, [good[0]], NAN), good)


SEED = Values([v for v in whole(0).bad if v is not None], whole(0).good)
DRAWN = [{"bias_ih": lambda rng, shape, value=value: value} for value in (NAN, 1j, np.ones(2), "0", None, True)]
INIT = Values(
    (
        "he",
        None,
        5,
        True,
        ["keras"],
        np.array(["keras", "chrono"]),
        {"W": nn.init.identity()},
        {"weight_hh": 1.0},
        *DRAWN,
    ),
    ("pytorch", "keras", {}, {"weight_hh": nn.init.identity()}, {"bias_ih": lambda rng, shape: np.float32(0)}),
)

SIZES = {"input_size": 2, "hidden_size": 3}


def weight():
    return {"w": tg.Tensor([1.0, 2.0], requires_grad=True)}


def constructor(kind, **given):
    """A function of one option, the others as given; a size that is the option is not given."""
    return lambda **option: kind(**{**given, **option})


X = np.random.default_rng(0).normal(size=(6, 2, 2))
FLOW = diagnose.gradient_flow(tg.LSTMCell(2, 3, rng=0), X)
RNN_FLOW = diagnose.gradient_flow(tg.RNNCell(2, 3, rng=0), X)
GRU_FLOW = diagnose.gradient_flow(tg.GRUCell(2, 3, rng=0), X)


def fit(**option):
    task = train.Adding(4)
    model = train.SequenceModel(tg.RNNCell(2, 2, rng=0), task, rng=0)
    given = {"steps": 2, "batch_size": 2, "progress": False, **option}
    return train.fit(model, task, train.SGD(model), **given)


def assigned(**option):
    optimiser = train.SGD(weight())
    ((name, value),) = option.items()
    setattr(optimiser, name, value)


LOSS = tg.sum(tg.unroll(tg.RNNCell(1, 2, rng=0), np.ones((2, 1)))[1])
CELL = {"dtype": DTYPE, "rng": RNG, "bias": FLAG, "init": INIT, "input_size": whole(1), "hidden_size": whole(1)}
STACK = {**CELL, "num_layers": whole(1), "batch_first": FLAG, "bidirectional": FLAG}
LSTM = {"forget_bias": BIAS, "input_bias": BIAS, "forget_gate": FLAG, "t_max": whole(2)}
GRU = {"update_bias": BIAS, "t_max": whole(2)}
PHI = {"nonlinearity": words("tanh", "relu", "sigmoid", "identity")}
OPTIMISER = {"lr": NOT_NEGATIVE, "weight_decay": NOT_NEGATIVE}
LSTM_STATE, RNN_STATE = nn.LSTM(2, 3, rng=0).state_dict(), nn.RNN(2, 3, rng=0).state_dict()
NO_MAPPING = Values(([], 5, None, "x"), ())
SAID = Values([v for v in PHI["nonlinearity"].bad if v is not None], PHI["nonlinearity"].good)  # None asks to be told
WINDOW = {"window": whole(1).without(None)}

REDUCTION = {"reduction": words("mean", "sum", "none")}

NN = [
    (nn.RNNCell, constructor(nn.RNNCell, **SIZES), CELL | PHI),
    (nn.LSTMCell, constructor(nn.LSTMCell, **SIZES), CELL | LSTM),
    (nn.GRUCell, constructor(nn.GRUCell, **SIZES), CELL | GRU),
    (nn.RNN, constructor(nn.RNN, **SIZES), STACK | PHI),
    (nn.LSTM, constructor(nn.LSTM, **SIZES), STACK | LSTM),
    (nn.GRU, constructor(nn.GRU, **SIZES), STACK | GRU),
    *[(kind, constructor(kind, **SIZES, num_layers=2), {"dropout": FROM_0_TO_1}) for kind in (nn.RNN, nn.LSTM, nn.GRU)],
    (
        nn.Linear,
        constructor(nn.Linear, in_features=2, out_features=2),
        {"in_features": whole(1), "out_features": whole(1), "bias": FLAG, "dtype": DTYPE, "rng": RNG},
    ),
    (
        nn.Embedding,
        constructor(nn.Embedding, num_embeddings=2, embedding_dim=2),
        {"num_embeddings": whole(1), "embedding_dim": whole(1), "dtype": DTYPE, "rng": RNG},
    ),
    (nn.RNNCell.initial_state, nn.RNNCell(2, 3).initial_state, {"batch": whole(0).without(None)}),
    (nn.Module.train, nn.Linear(1, 1).train, {"mode": FLAG}),
    (
        nn.Module.load_state_dict,
        lambda **option: nn.Linear(1, 1).load_state_dict(**{"state_dict": {}, "strict": False, **option}),
        {"strict": Values(FLAG.bad, (False,)), "state_dict": NO_MAPPING},
    ),
    (
        nn.from_state_dict,
        constructor(nn.from_state_dict, state_dict=LSTM_STATE),
        {
            **{"batch_first": FLAG, "dtype": DTYPE, "kind": words("LSTM").without(None), "state_dict": NO_MAPPING},
            "prefix": Values((5, None, True, ["a"]), ("",)),
        },
    ),
    (nn.from_state_dict, constructor(nn.from_state_dict, state_dict=RNN_STATE), {"nonlinearity": SAID}),
    (
        nn.from_keras,
        constructor(nn.from_keras, weights=[np.ones((2, 9)), np.ones((3, 9))], config={}),
        {
            "weights": Values(([np.ones(3)], [np.ones((2, 3))] * 2), ([np.ones((2, 12)), np.ones((3, 12))],)),
            "config": Values(
                ({"activation": "relu"}, {"recurrent_activation": "hard_sigmoid"}), ({"reset_after": True},)
            ),
            "reset_after": Values((None,), (True,)),
        },
    ),
    (nn.unroll, lambda **option: tg.unroll(tg.RNNCell(2, 3), X, **option), WINDOW),
    (nn.RNN.__call__, lambda **option: nn.RNN(2, 3)(X, **option), WINDOW),
    (nn.LSTM.__call__, lambda **option: nn.LSTM(2, 3)(X, **option), WINDOW),
    (nn.mse_loss, lambda **option: nn.mse_loss(X, X, **option), REDUCTION),
    (
        nn.binary_cross_entropy_with_logits,
        lambda **option: nn.binary_cross_entropy_with_logits(0.0, 1.0, **option),
        REDUCTION,
    ),
    (
        nn.cross_entropy,
        lambda **option: nn.cross_entropy(np.zeros((2, 2)), [0, 1], **option),
        {
            **REDUCTION,
            "weight": Values(([1.0], "a", [1.0, NAN]), (None, [1.0, 2.0])),
            "ignore_index": Values((True, "1", 1.5, NAN, [1]), (None, -100, 0, np.int8(1))),
        },
    ),
    (nn.init.uniform, nn.init.uniform, {"bound": NOT_NEGATIVE}),
    (nn.init.gaussian, nn.init.gaussian, {"std": NOT_NEGATIVE}),
    (nn.init.constant, nn.init.constant, {"value": FINITE}),
    (nn.init.xavier, nn.init.xavier, {"gain": NOT_NEGATIVE}),
    (nn.init.orthogonal, nn.init.orthogonal, {"gain": FINITE, "each_gate": FLAG}),
    (nn.init.identity, nn.init.identity, {"scale": FINITE}),
    (nn.init.spectral_radius, nn.init.spectral_radius, {"radius": NOT_NEGATIVE}),
    (
        nn.init.chrono,
        constructor(nn.init.chrono, rng=0, hidden_size=2, t_max=9),
        {"rng": RNG, "hidden_size": whole(1), "t_max": whole(2)},
    ),
]

SGD = OPTIMISER | {"momentum": FROM_0_TO_1}
ADAGRAD = OPTIMISER | {"eps": NOT_NEGATIVE}
RMSPROP = OPTIMISER | {"alpha": BELOW_1, "eps": NOT_NEGATIVE}
COUNTS = dict.fromkeys(("steps", "batch_size", "evaluate_every", "checkpoint_every"), whole(1))
LIMITS = dict.fromkeys(("clip_norm", "clip_value"), POSITIVE.without(None))

CALLBACK = Values((None, 5, "print", [print]), (print, lambda run: None))
TRAIN = [
    (train.Optimiser, lambda **option: train.Optimiser(weight(), **{"lr": 0.1, **option}), OPTIMISER),
    (train.Optimiser, assigned, {"lr": NOT_NEGATIVE}),
    (train.SGD, lambda **option: train.SGD(weight(), **option), SGD),
    (train.Adagrad, lambda **option: train.Adagrad(weight(), **option), ADAGRAD),
    (train.RMSprop, lambda **option: train.RMSprop(weight(), **option), RMSPROP),
    (train.Adam, lambda **option: train.Adam(weight(), **option), OPTIMISER | {"betas": BETAS, "eps": NOT_NEGATIVE}),
    (train.clip_grad_norm, lambda **option: train.clip_grad_norm(weight(), **option), {"max_norm": POSITIVE}),
    (train.clip_grad_value, lambda **option: train.clip_grad_value(weight(), **option), {"limit": POSITIVE}),
    (train.every, constructor(train.every, k=1, callback=print), {"k": whole(1), "callback": CALLBACK}),
    (train.fit, fit, COUNTS | LIMITS | WINDOW | {"derived": FLAG, "until_solved": FLAG, "progress": FLAG}),
    (train.fit, fit, {"seed": Values((*SEED.bad, None), (*SEED.good, np.random.default_rng(0)))}),
    (train.fit, fit, {"resume": Values(FLAG.bad, (False,))}),
    (train.fit, fit, {"callbacks": Values((print, 5, None, [5], "ab", [None]), ((), [lambda run: None], iter([])))}),
    (train.Adding, train.Adding, {"length": whole(4), "minimal_lag": FLAG}),
    *[(kind, kind, {"length": whole(1)}) for kind in (train.Copying, train.Text, train.Series)],
    (train.TemporalOrder, train.TemporalOrder, {"length": whole(10)}),
    (train.Text, constructor(train.Text, length=1), {"text": Values((5, True, ["ab"], b"abc"), ("abc", None))}),
    (train.SequenceModel, lambda **o: train.SequenceModel(tg.RNNCell(2, 3), train.Adding(), **o), {"rng": RNG}),
    (train.History.smooth, train.History("t", 2.0, "", "m", 0.0, losses=[1.0]).smooth, {"rate": FROM_0_TO_1}),
]

EDGES = Values((*several(0).bad, (), (2, 1), (1, 1)), ((0, 2), [np.int64(1)])).without(None)
SCALED = dict.fromkeys(("weight_scale", "input_scale", "orthogonal", "bias"), FINITE)
SCALED |= {"standardise": Values((*FLAG.bad, False), (True, np.True_)), "redraw": words("biases", "input weights")}
SCALED |= {"scale": Values((2.0, "x", {"weight_hh": "2"}, {"weight_hh": NAN}, {"w": 2.0}), ({"weight_hh": 2.0},))}
CURE = {"most": whole(1), "below": POSITIVE.without(None)}
CURE |= {"train": Values((None, lambda model: [], lambda model: 1.0), (lambda model: [1.0],))}
GATE_BIASES = {**dict.fromkeys(("forget_bias", "input_bias", "output_bias", "gate_bias"), FINITE), "chrono": whole(2)}
ONE_OF_TWO = Values((*whole(0).bad, 2), (0, np.int64(1)))
NETWORK = {
    **{"cell": words("rnn", "lstm", "gru"), "weights": words("orthogonal", "uniform"), "centred": FLAG},
    **{"nonlinearity": words("tanh", "relu"), "scale": FINITE, "bias": FINITE, "input_scale": NOT_NEGATIVE},
    **dict.fromkeys(("hidden", "features", "steps"), whole(1)),
    **{"nonlinearty": Values(("tanh",), ()), "forget_gate": FLAG},
}

DIAGNOSE = [
    (
        diagnose.gradient_flow,
        lambda **option: diagnose.gradient_flow(tg.RNNCell(2, 3), X, **option),
        {
            **{"rng": RNG, "loss": Values(("first", None, 5, True), ("last", "all", tg.sum)), "edges": EDGES},
            "lengths": Values(((2.0, 1), "12", (0, 1), (9, 1), (1,), ((1,), (1, 1))), (None, (2, 6), np.uint8([2, 1]))),
            **{"lag": whole(1).without(None), "read": Values((*whole(1).bad, 7), (1, np.int64(6))).without(None)},
            "trained": FLAG,
            "direction": Values(((NAN, 1, 1), np.ones(2), (1j, 0, 0), "v"), (None, np.ones(3), [1, 0, 0])),
        },
    ),
    (
        diagnose.jacobian_spectrum,
        lambda **option: diagnose.jacobian_spectrum(tg.RNNCell(2, 3), X, **option),
        {
            "lags": Values([*several(1).bad, [7]], several(1).good).without(None),
            "sequence": ONE_OF_TWO,
        },
    ),
    (
        diagnose.lyapunov,
        lambda **option: diagnose.lyapunov(tg.RNNCell(2, 3), X, **option),
        {
            "k": Values((*whole(1).bad, 4), (1, np.int64(3))).without(None),
            "discard": Values((*whole(0).bad, 6), (0, np.int64(2))).without(None),
            "sequence": ONE_OF_TWO,
        },
    ),
    (diagnose.GradientFlow.table, FLOW.table, {"lags": Values([*several(0).bad, [7]], several(0).good).without(None)}),
    (diagnose.GradientFlow.what_if, RNN_FLOW.what_if, PHI | SCALED),
    (diagnose.GradientFlow.what_if, FLOW.what_if, GATE_BIASES),
    (diagnose.GradientFlow.what_if, GRU_FLOW.what_if, {"update_bias": FINITE}),
    (
        diagnose.change,
        lambda **option: diagnose.change(tg.RNNCell(2, 3), X, bias=0.5, **option),
        {"lengths": Values(((2.0, 1), "12", (0, 1), (9, 1), (1,), ((1,), (1, 1))), (None, (2, 6), np.uint8([2, 1])))},
    ),
    (diagnose.cure, constructor(diagnose.cure, flow=RNN_FLOW, train=lambda model: [1.0]), CURE),
    (diagnose.compare, diagnose.compare, {"models": Values(([FLOW], 5, "x", None), ({"a": FLOW},))}),
    (
        diagnose.FlowProbe,
        constructor(diagnose.FlowProbe, inputs=X),
        {
            "rng": SEED,
            "inputs": Values((5, "x", [NAN], np.ones((0, 1, 1)), np.full((2, 1), NAN)), (X, np.ones((2, 1)))),
        },
    ),
    (
        atlas.sweep,
        constructor(atlas.sweep, configurations=[], measure=print, experiment="e"),
        {
            **{"retry": FLAG, "progress": FLAG.without(None), "in_flight": whole(1).without(None)},
            "measure": Values((None, 5, "print"), (print,)),
        },
    ),
    (
        atlas.process_pool,
        lambda **option: atlas.process_pool(**option).__enter__(),
        {"workers": Values([v for v in whole(1).bad if v is not None], ())},
    ),
    (network, lambda **option: network({"steps": 2, "hidden": 3, **option}), NETWORK),
    (atlas.boundaries, lambda **option: atlas.boundaries(option), NETWORK),
]

LEVEL = Values([*whole(1).bad, "ops"], [*whole(1).good, "auto", "op", "gate", "step"])
PAGE = Values(
    (True, 5, "x", (1,), (0, 1), (1.5, 2), (1, NAN), (1, 2, 3)),
    (None, "slide", "notebook", (800, 600), [900, np.int64(90)]),
)
SCALE = Values(
    (True, 5, "x", (1,), (1, 0), (NAN, 1), (0, 1), ("a", "b"), (1, INF), ("1", 2)),
    (None, "fixed", (1e-3, 1), [1e-3, np.float32(1)]),
)


def derive(**option):
    given = {"example": (X[:, 0], np.zeros(3)), **option}
    return tg.derive_bptt(tg.RNNCell(2, 3, rng=0), lambda state: tg.sum(state), **given)


DRAW = [
    (
        draw,
        lambda **option: draw(LOSS, **option),
        {
            **{"theme": words("light", "dark"), "norm": words("l2", "rms", "max"), "level": LEVEL, "scale": SCALE},
            **{"heads": words("gradient", "data"), "view": words("unrolled", "rolled")},
            "format": words("svg", "png", "pdf", "html", "dot", "gv").without(None),
            **{"parameters": words("auto", "step", "once", "none"), "labels": FLAG.without("auto"), "constants": FLAG},
            "fold": whole(1).without(None, "auto"),
            "page": PAGE,
            "steps": Values([*several(1).bad, [9]], several(1).good).without(None),
        },
    ),
    (
        gradient_through_time,
        lambda **option: gradient_through_time(LOSS, **option),
        {"norm": words("l2", "rms", "max")},
    ),
    (tg.GradientGraph.to_dict, tg.gradient_graph(LOSS).to_dict, {"arrays": FLAG}),
    (
        tg.gradient_graph,
        lambda **option: tg.gradient_graph(LOSS, **option),
        {"gradient": Values(("x", 1j, np.ones(3), [1, [2]]), (None, 2.0, np.float32(1)))},
    ),
    (
        tg.derive_bptt,
        derive,
        {
            "rewrites": Values(("gather", ["nope"], 5, [1]), ((), ["share"], None)),
            "example": Values(((), (X,), 5, None), ()),
            "compiled": Values(FLAG.bad, (False,)),  # True needs an extra
            "steps": Values(("nope", ["nope"], 5, [1]), ((), ["z"], None)),
        },
    ),
]
TABLE = NN + TRAIN + DIAGNOSE + DRAW
ROWS = [
    pytest.param(call, option, values, id=f"{owner.__qualname__}-{option}")
    for owner, call, options in TABLE
    for option, values in options.items()
]


@pytest.mark.parametrize(("call", "option", "values"), ROWS)
def test_a_bad_value_is_refused_in_one_line_that_names_the_option(call, option, values):
    for value in values.bad:
        with pytest.raises((TypeError, ValueError)) as told:
            call(**{option: value})
            pytest.fail(f"{option}={value!r} was taken")
        if isinstance(told.value, ArgumentError):
            message = str(told.value)
            assert option in message and ": give " in message and "\n" not in message and len(message) < 200, message


@pytest.mark.filterwarnings("ignore:dropout acts between layers")
@pytest.mark.parametrize(("call", "option", "values"), ROWS)
def test_a_good_value_is_taken(call, option, values):
    for value in values.good:
        call(**{option: value})


# --- nothing is forgotten ---

NO_OPTIONS = """
    self unknown options cell inputs state state_dict path film parameters model task optimiser checkpoint network
    columns data title subtitle graph module configurations executor experiment configuration names settings table x y
    value history histories flow changes when loss numbers prediction target logits labels
""".split()
WE_MAKE_THEM = set(
    """
    Run History Task Boundary Comparison Cure Finding GradientFlow Grid Spectrum Table Verdict TableError Diverged
    Interrupted check_claims
""".split()
)


def test_every_option_of_every_public_callable_is_in_the_table():
    known = {nn.load: {"prefix"}}  # the same function takes it as that of from_state_dict
    for owner, _, options in TABLE:
        known.setdefault(owner, set()).update(options)
    public = [getattr(part, name) for part in (nn, train, diagnose, atlas) for name in {*part.__all__} - WE_MAKE_THEM]
    public += [f for f in vars(nn.init).values() if inspect.isfunction(f) and f.__module__ == nn.init.__name__]
    public += [tg.draw, tg.derive_bptt, tg.gradient_graph, gradient_through_time]
    forgotten = [
        f"{owner.__name__}({name}=)"
        for owner in public
        if callable(owner)
        for name in inspect.signature(owner).parameters
        if name not in NO_OPTIONS and name not in known.get(owner, ()) and not owner.__name__.startswith("_")
    ]
    assert sorted(forgotten) == ["initialisers(hidden_size=)", "initialisers(init=)"]  # cells call it, and are checked


def test_a_wrong_value_is_both_a_type_error_and_a_value_error():
    for kind in (TypeError, ValueError):
        with pytest.raises(kind, match=r"^num_layers=1\.5: give a whole number, at least 1$"):
            nn.LSTM(2, 3, num_layers=1.5)
    with pytest.raises(
        ArgumentError, match=r"^forget_bias=array\(\[\[1\.\], \[1\.\], \[1\.\]\]\): give a finite number"
    ) as told:
        nn.LSTMCell(2, 3, forget_bias=np.ones((3, 1)))
    assert "\n" not in str(told.value)


def test_numpys_numbers_become_pythons():
    """So that they are printed, saved and compared like the others."""
    stack = nn.GRU(
        np.int64(2), np.int8(3), num_layers=np.int64(2), dropout=np.float32(0.5), batch_first=np.True_, rng=0
    )
    assert repr(stack) == "GRU(2, 3, num_layers=2, dropout=0.5, batch_first=True)"
    assert [type(v) for v in (stack.input_size, stack.dropout, stack.batch_first)] == [int, float, bool]
    optimiser = train.Adam(weight(), lr=np.float64(0.1), betas=np.array([0.5, 0.75]), eps=np.float64(0))
    assert repr(optimiser) == "Adam(lr=0.1, betas=(0.5, 0.75), eps=0.0, weight_decay=0.0)"


def test_a_checkpoint_with_numpys_settings_goes_on(tmp_path):
    given = {"batch_size": np.int64(2), "clip_norm": np.float32(1), "seed": np.int64(0), "window": np.int16(2)}
    path = tmp_path / "c.npz"
    fit(**given, checkpoint=path)
    went_on = fit(steps=4, batch_size=2, clip_norm=1.0, seed=0, window=2, checkpoint=path, resume=True)
    assert went_on.losses == fit(steps=4, batch_size=2, clip_norm=1.0, seed=0, window=2).losses


def test_what_would_be_ignored_is_refused():
    flow, net = diagnose.gradient_flow, tg.LSTM(2, 3, bidirectional=True, rng=0)
    outputs, _ = tg.unroll(tg.RNNCell(2, 3, rng=0), X)
    for given in (
        {"inputs": X},
        {"state": np.ones((2, 3))},
        {"direction": np.ones(3)},
        {"lengths": [2]},
        {"edges": (1,)},
        {"loss": "all"},
    ):
        with pytest.raises(TypeError, match=f"{next(iter(given))}: only for a network that is still to be unrolled"):
            flow(tg.sum(outputs[-1]), **given)
    with pytest.raises(ValueError, match="edges= is for a cell"):
        flow(net, X, edges=(1,))
    with pytest.raises(ValueError, match="direction= is v of the losses"):
        flow(tg.RNNCell(2, 3), X, tg.sum, direction=np.ones(3))
    state = (np.ones((2, 2, 3)), np.ones((2, 2, 3)))
    assert flow(net, X).to_dict() != flow(net, X, state=state).to_dict()

"""Mistakes in rules as people make them, and the causes that are true of each: often several are."""

import math

import numpy as np

RNG = np.random.default_rng(5)


def values(*s):
    return RNG.uniform(0.4, 1.6, s) * RNG.choice([-1, 1], s)


def positive(*s):
    return RNG.uniform(0.3, 2, s)


def sig(x):
    return 1 / (1 + np.exp(-x))


def softmax(x, axis=-1):
    e = np.exp(x - x.max(axis, keepdims=True))
    return e / e.sum(axis, keepdims=True)


def put(x, i, g):
    o = np.zeros_like(x)
    o[i] = g
    return o


KEPT = {}


def kept_mask(x):
    KEPT["m"] = (x > 0) * 1.0
    return x * KEPT["m"]


def kept_in(x):
    KEPT["x"] = x
    return np.sin(x)


BUFFERS = {}


def shared_buffer(x):
    b = BUFFERS.setdefault(x.shape, np.zeros(x.shape))
    np.multiply(x, x, out=b)
    return b


WEIGHTS = values(3, 3)


def conv(x, w):
    return np.convolve(x, w, "valid")


def slope_of_tanh_gelu(x):
    t = np.tanh(0.7979 * (x + 0.0447 * x**3))
    return (1 + t) / 2 + x / 2 * (1 - t**2) * 0.7979 * (1 + 3 * 0.0447 * x * x)


# (what is wrong, causes that are right, forward, rules, inputs)
MISTAKES = [
    ("relu derivative flipped", {"sign", "few elements", "missing factor", "swapped", "factor"},
     lambda x: np.maximum(x, 0), [lambda g, y, x: g * (x < 0)], [values(5)]),
    ("elu slope lost on negatives", {"few elements", "missing factor"}, lambda x: np.where(x > 0, x, np.exp(x) - 1),
     [lambda g, y, x: g + 0 * x], [values(5)]),
    ("elu negative y for y+1", {"few elements", "offset", "missing term"},
     lambda x: np.where(x > 0, x, np.exp(x) - 1), [lambda g, y, x: g * np.where(x > 0, 1, y)], [values(6)]),
    ("sigmoid by x: x(1-x)", {"swapped", "missing factor"}, sig, [lambda g, y, x: g * x * (1 - x)], [values(5)]),
    ("tanh 1-x²", {"swapped", "missing factor"}, np.tanh, [lambda g, y, x: g * (1 - x * x)], [values(5)]),
    ("tanh 1-y", {"missing factor"}, np.tanh, [lambda g, y, x: g * (1 - y)], [values(5)]),
    ("log g/y", {"missing factor"}, np.log, [lambda g, y, x: g / y], [positive(5)]),
    ("sqrt 2/y", {"factor", "missing factor"}, np.sqrt, [lambda g, y, x: g * 2 / y], [positive(5)]),
    ("sqrt 1/(2x)", {"missing factor"}, np.sqrt, [lambda g, y, x: g / (2 * x)], [positive(5)]),
    ("reciprocal sign", {"sign"}, lambda x: 1 / x, [lambda g, y, x: g * y * y], [positive(5)]),
    ("reciprocal -g*y", {"missing factor"}, lambda x: 1 / x, [lambda g, y, x: -g * y], [positive(5)]),
    ("division by b lost square", {"missing factor"}, np.divide,
     [lambda g, y, a, b: g / b, lambda g, y, a, b: -g * a / b], [values(4), positive(4)]),
    ("division sign", {"sign"}, np.divide, [lambda g, y, a, b: g / b, lambda g, y, a, b: g * a / b / b],
     [values(4), positive(4)]),
    ("power: y log b for y log a", {"missing factor", "swapped"}, np.power,
     [lambda g, y, a, b: g * b * y / a, lambda g, y, a, b: g * y * np.log(b)], [positive(4), positive(4)]),
    ("power b-1 lost", {"missing factor"}, np.power,
     [lambda g, y, a, b: g * b * a ** b, lambda g, y, a, b: g * y * np.log(a)], [positive(4), positive(4)]),
    ("exp2 without log2", {"factor"}, np.exp2, [lambda g, y, x: g * y], [values(4)]),
    ("log10 as log", {"factor"}, np.log10, [lambda g, y, x: g / x], [positive(4)]),
    ("sin degrees", {"factor"}, lambda x: np.sin(np.pi / 180 * x), [lambda g, y, x: g * np.cos(np.pi / 180 * x)],
     [values(4)]),
    ("atan2 swapped", {"swapped"}, np.arctan2,
     [lambda g, y, a, b: -g * a / (a * a + b * b), lambda g, y, a, b: g * b / (a * a + b * b)],
     [values(4), values(4)]),
    ("hypot swapped", {"swapped"}, np.hypot, [lambda g, y, a, b: g * b / y, lambda g, y, a, b: g * a / y],
     [values(4), values(4)]),
    ("max to all equal share", {"cotangent ignored", "broadcast", "few elements", "missing factor"},
     lambda x: x.max(-1), [lambda g, y, x: g[..., None] * np.ones_like(x) / x.shape[-1]], [values(2, 4)]),
    ("max argmin", {"permuted", "few elements", "sign"}, lambda x: x.max(-1),
     [lambda g, y, x: g[..., None] * (x == x.min(-1, keepdims=True))], [values(2, 4)]),
    ("sum over wrong axis spread", {"broadcast"}, lambda x: x.sum(0),
     [lambda g, y, x: np.broadcast_to(g[:, None], x.shape)], [values(3, 3)]),
    ("mean no division", {"factor"}, lambda x: x.mean(0), [lambda g, y, x: np.broadcast_to(g, x.shape)],
     [values(3, 4)]),
    ("mean divides by total", {"factor"}, lambda x: x.mean(0),
     [lambda g, y, x: np.broadcast_to(g, x.shape) / x.size], [values(3, 4)]),
    ("std lost 1/n", {"factor"}, lambda x: x.std(), [lambda g, y, x: g * (x - x.mean()) / y], [values(5)]),
    ("var without centring", {"missing term"}, lambda x: x.var(-1),
     [lambda g, y, x: 2 * g[..., None] * x / x.shape[-1]], [values(2, 5)]),
    ("softmax lost sum", {"missing term", "off-diagonal"}, softmax, [lambda g, y, x: g * y], [values(2, 4)]),
    ("softmax sum(g) for sum(gy)", {"missing term", "broadcast", "missing factor"}, softmax,
     [lambda g, y, x: y * (g - g.sum(-1, keepdims=True))], [values(2, 4)]),
    ("log softmax lost exp", {"swapped", "missing factor", "missing term"}, lambda x: np.log(softmax(x)),
     [lambda g, y, x: g - y * g.sum(-1, keepdims=True)], [values(2, 4)]),
    ("logsumexp over all", {"factor", "missing factor", "broadcast"}, lambda x: np.log(np.exp(x).sum(-1)),
     [lambda g, y, x: g[..., None] * np.exp(x) / np.exp(x).sum()], [values(2, 4)]),
    ("cross-entropy without minus onehot", {"missing term", "few elements"},
     lambda x: -np.log(softmax(x))[np.arange(2), [0, 2]].sum(), [lambda g, y, x: g * softmax(x)], [values(2, 4)]),
    ("norm squared rule", {"missing factor", "factor"}, lambda x: np.sqrt((x * x).sum()), [lambda g, y, x: g * x],
     [values(5)]),
    ("norm rule 2x/y", {"factor"}, lambda x: np.sqrt((x * x).sum()), [lambda g, y, x: 2 * g * x / y], [values(5)]),
    ("cumsum not reversed", {"permuted", "transposed"}, lambda x: np.cumsum(x), [lambda g, y, x: np.cumsum(g)],
     [values(5)]),
    ("cumprod naive", {"off-diagonal", "missing term"}, lambda x: np.cumprod(x), [lambda g, y, x: g * y / x],
     [values(5)]),
    ("prod without division", {"missing factor"}, lambda x: x.prod(), [lambda g, y, x: g * y * np.ones_like(x)],
     [values(5)]),
    ("diff sign", {"sign"}, lambda x: np.diff(x), [lambda g, y, x: np.diff(g, prepend=0, append=0)], [values(5)]),
    ("diff one end lost", {"few elements"}, lambda x: np.diff(x),
     [lambda g, y, x: np.concatenate([[0.0], -np.diff(g), [g[-1]]])], [values(5)]),
    ("reverse not undone", {"permuted"}, lambda x: x[::-1], [lambda g, y, x: g * 1.0], [values(5)]),
    ("roll same way", {"transposed", "permuted"}, lambda x: np.roll(x, 1), [lambda g, y, x: np.roll(g, 1)],
     [values(5)]),
    ("transpose perm not inverted", {"transposed"}, lambda x: x.transpose(1, 2, 0),
     [lambda g, y, x: g.transpose(1, 2, 0)], [values(3, 3, 3)]),
    ("reshape order F", {"permuted", "transposed"}, lambda x: x.reshape(6),
     [lambda g, y, x: g.reshape(x.shape, order="F")], [values(2, 3)]),
    ("take overwrite", {"repeated index"}, lambda x: x[[0, 1, 1, 2]], [lambda g, y, x: put(x, [0, 1, 1, 2], g)],
     [values(4)]),
    ("take off by one", {"permuted", "few elements"}, lambda x: x[[0, 1]], [lambda g, y, x: put(x, [1, 2], g)],
     [values(4)]),
    ("pad: cut the wrong side", {"permuted"}, lambda x: np.pad(x, (1, 2)), [lambda g, y, x: g[2:2 + len(x)]],
     [values(4)]),
    ("concat swapped halves", {"swapped", "permuted"}, lambda a, b: np.concatenate([a, b]),
     [lambda g, y, a, b: g[len(b):], lambda g, y, a, b: g[:len(b)]], [values(3), values(3)]),
    ("outer swapped", {"swapped"}, np.outer, [lambda g, y, a, b: a @ g, lambda g, y, a, b: g @ b],
     [values(3), values(3)]),
    ("outer transposed g", {"transposed"}, np.outer, [lambda g, y, a, b: b @ g, lambda g, y, a, b: a @ g],
     [values(3), values(3)]),
    ("matmul b not transposed", {"transposed"}, np.matmul, [lambda g, y, a, b: g @ b, lambda g, y, a, b: a.T @ g],
     [values(3, 3), values(3, 3)]),
    ("matmul order", {"transposed"}, np.matmul, [lambda g, y, a, b: b.T @ g, lambda g, y, a, b: a.T @ g],
     [values(3, 3), values(3, 3)]),
    ("linear dW transposed", {"transposed"}, lambda x, W: x @ W.T,
     [lambda g, y, x, W: g @ W, lambda g, y, x, W: x.T @ g], [values(3, 3), values(3, 3)]),
    ("linear bias first row", {"broadcast"}, lambda x, b: x + b, [lambda g, y, x, b: g, lambda g, y, x, b: g[0]],
     [values(4, 3), values(3)]),
    ("linear bias mean", {"factor"}, lambda x, b: x + b, [lambda g, y, x, b: g, lambda g, y, x, b: g.mean(0)],
     [values(4, 3), values(3)]),
    ("scalar times array, unsummed mean", {"factor"}, lambda a, x: a * x,
     [lambda g, y, a, x: (g * x).mean(), lambda g, y, a, x: g * a], [np.array(0.7), values(4)]),
    ("inv sign", {"sign"}, np.linalg.inv, [lambda g, y, x: y.T @ g @ y.T], [values(3, 3) + 3 * np.eye(3)]),
    ("inv one side", {"missing factor", "transposed"}, np.linalg.inv, [lambda g, y, x: -y.T @ g],
     [values(3, 3) + 3 * np.eye(3)]),
    ("det untransposed", {"transposed"}, np.linalg.det, [lambda g, y, x: g * y * np.linalg.inv(x)], [values(3, 3)]),
    ("logdet sign", {"sign"}, lambda x: np.linalg.slogdet(x)[1], [lambda g, y, x: -g * np.linalg.inv(x).T],
     [values(3, 3)]),
    ("trace of product", {"transposed"}, lambda a: np.trace(a @ WEIGHTS), [lambda g, y, a: g * WEIGHTS],
     [values(3, 3)]),
    ("quadratic form, symmetric assumed", {"transposed", "missing term"}, lambda x: x @ WEIGHTS @ x,
     [lambda g, y, x: 2 * g * WEIGHTS @ x], [values(3)]),
    ("conv valid flipped", {"permuted"}, conv,
     [lambda g, y, x, w: np.convolve(g, w), lambda g, y, x, w: np.correlate(x, g, "valid")[::-1]],
     [values(6), values(3)]),
    ("dropout mask not scaled", {"factor"}, lambda x: x * np.array([1, 0, 1, 1.0]) / 0.75,
     [lambda g, y, x: g * np.array([1, 0, 1, 1.0])], [values(4)]),
    ("clip passes everything", {"few elements"}, lambda x: np.clip(x, -1, 1), [lambda g, y, x: g + 0 * x],
     [np.array([-1.5, 0.2, 0.6, 1.4, -0.3])]),
    ("leaky slope wrong", {"few elements"}, lambda x: np.where(x > 0, x, 0.1 * x),
     [lambda g, y, x: g * np.where(x > 0, 1, 0.01)], [values(5)]),
    ("huber no clip", {"few elements"}, lambda x: np.where(abs(x) < 1, x * x / 2, abs(x) - 0.5),
     [lambda g, y, x: g * x], [np.array([-1.5, 0.2, 0.6, 1.4, -0.3])]),
    ("gelu approx for exact", {"factor", "not float64"},
     lambda x: x * (1 + np.vectorize(math.erf)(x / 2 ** 0.5)) / 2,
     [lambda g, y, x: g * slope_of_tanh_gelu(x)],
     [values(5)]),
    ("softplus exp(x)", {"missing factor"}, lambda x: np.log1p(np.exp(x)), [lambda g, y, x: g * np.exp(x)],
     [values(5)]),
    ("softplus 1-exp(y)", {"sign", "missing factor"}, lambda x: np.log1p(np.exp(x)),
     [lambda g, y, x: g * (1 - np.exp(y))], [values(5)]),
    ("mse missing 2", {"factor"}, lambda a, b: ((a - b) ** 2).mean(),
     [lambda g, y, a, b: g * (a - b) / a.size, lambda g, y, a, b: -g * (a - b) / a.size], [values(4), values(4)]),
    ("mse target sign", {"sign"}, lambda a, b: ((a - b) ** 2).mean(),
     [lambda g, y, a, b: 2 * g * (a - b) / a.size, lambda g, y, a, b: 2 * g * (a - b) / a.size],
     [values(4), values(4)]),
    ("bce: y-p sign", {"sign"}, lambda z: np.log1p(np.exp(z)) - 0.3 * z, [lambda g, y, z: g * (0.3 - sig(z))],
     [values(4)]),
    ("bce: on probabilities, no denominator", {"missing factor"}, lambda p: -(0.3 * np.log(p) + 0.7 * np.log(1 - p)),
     [lambda g, y, p: g * (p - 0.3)], [RNG.uniform(0.2, 0.8, 4)]),
    ("g squared", {"cotangent ignored"}, np.sin, [lambda g, y, x: g * g * np.cos(x)], [values(4)]),
    ("g abs", {"cotangent ignored", "sign"}, np.sin, [lambda g, y, x: abs(g) * np.cos(x)], [values(4)]),
    ("g sum", {"cotangent ignored"}, np.sin, [lambda g, y, x: g.sum() * np.cos(x)], [values(4)]),
    ("g clipped", {"cotangent ignored", "few elements"}, np.sin, [lambda g, y, x: np.clip(g, -1, 1) * np.cos(x)],
     [values(4)]),
    ("second operand detached", {"detached"}, np.multiply,
     [lambda g, y, a, b: g * b, lambda g, y, a, b: np.zeros_like(b)], [values(4), values(4)]),
    ("saved mask of last call", {"stale"}, kept_mask,
     [lambda g, y, x: g * KEPT["m"] if KEPT["m"].shape == g.shape else g * (x > 0)], [values(4)]),
    ("saved x of last call", {"stale"}, kept_in,
     [lambda g, y, x: g * np.cos(KEPT["x"] if KEPT["x"].shape == x.shape else x)], [values(4)]),
    ("shared out buffer", {"stale", "mutation"}, shared_buffer, [lambda g, y, x: 2 * g * x], [values(4)]),
    ("rule changes g", {"mutation"}, np.exp, [lambda g, y, x: np.multiply(g, y, out=g)], [values(4)]),
    ("integer division", {"detached", "few elements", "missing factor"}, lambda x: x ** 2 / 2,
     [lambda g, y, x: g * (x // 1)], [values(4)]),
    ("rounded to 3", {"few elements", "not float64"}, np.sin, [lambda g, y, x: g * np.round(np.cos(x), 3)],
     [values(4)]),
    ("float16 factor", {"not float64"}, np.sin, [lambda g, y, x: g * np.cos(x).astype(np.float16)], [values(4)]),
    ("scaled by batch", {"factor"}, lambda x, W: x @ W,
     [lambda g, y, x, W: g @ W.T, lambda g, y, x, W: x.T @ g / len(x)], [values(4, 3), values(3, 2)]),
    ("rms norm constant", {"missing term"}, lambda x: x / np.sqrt((x * x).mean(-1, keepdims=True)),
     [lambda g, y, x: g / np.sqrt((x * x).mean(-1, keepdims=True))], [values(2, 5)]),
    ("batch norm mean constant", {"missing term"}, lambda x: (x - x.mean(0)) / x.std(0),
     [lambda g, y, x: (g - y * (g * y).mean(0)) / x.std(0)], [values(5, 2)]),
    ("weight sharing: only first use", {"repeated index", "missing term", "few elements", "broadcast", "factor"},
     lambda w: np.stack([w, w * 2]), [lambda g, y, w: g[0]], [values(3)]),
    ("lstm gate: the other gates slope", {"swapped", "missing factor"}, lambda a, b: sig(a) * np.tanh(b),
     [lambda g, y, a, b: g * sig(a) * (1 - sig(a)), lambda g, y, a, b: g * sig(a) * (1 - np.tanh(b) ** 2)],
     [values(4), values(4)]),
    ("product: square of the other operand", {"missing factor"}, lambda a, b: a * b * b,
     [lambda g, y, a, b: g * b * b, lambda g, y, a, b: g * a * b * b], [values(4), values(4)]),
    ("a b² , 2 lost", {"factor"}, lambda a, b: a * b * b,
     [lambda g, y, a, b: g * b * b, lambda g, y, a, b: g * a * b], [values(4), values(4)]),
    ("chain: outer derivative at wrong point", {"missing factor"}, lambda x: np.sin(x * x),
     [lambda g, y, x: g * np.cos(x) * 2 * x], [values(4)]),
    ("chain: inner derivative lost", {"missing factor"}, lambda x: np.sin(x * x),
     [lambda g, y, x: g * np.cos(x * x)], [values(4)]),
    ("chain: factor 3 lost", {"factor"}, lambda x: np.tanh(3 * x), [lambda g, y, x: g * (1 - y * y)], [values(4)]),
    ("sin cos sign", {"sign"}, np.cos, [lambda g, y, x: g * np.sin(x)], [values(4)]),
    ("cos kept: -cos", {"missing factor"}, np.cos, [lambda g, y, x: -g * y], [values(4)]),
    ("sin rule sin", {"missing factor"}, np.sin, [lambda g, y, x: g * y], [values(4)]),
    ("arctan 1/(1-x²)", {"sign", "missing factor"}, np.arctan, [lambda g, y, x: g / (1 - x * x)],
     [RNG.uniform(-0.8, 0.8, 4)]),
    ("arctan no denominator", {"missing factor"}, np.arctan, [lambda g, y, x: g * np.ones_like(x)], [values(4)]),
    ("arcsin 1/(1-x²)", {"missing factor"}, np.arcsin, [lambda g, y, x: g / (1 - x * x)],
     [RNG.uniform(-0.8, 0.8, 4)]),
    ("triu: passes all", {"few elements"}, lambda x: np.triu(x), [lambda g, y, x: g + 0 * x], [values(3, 3)]),
    ("triu: as tril", {"transposed", "permuted", "few elements"}, lambda x: np.triu(x), [lambda g, y, x: np.tril(g)],
     [values(3, 3)]),
    ("diag to ones", {"few elements"}, lambda x: np.diag(x), [lambda g, y, x: np.broadcast_to(g, x.shape)],
     [values(3, 3)]),
    ("kron sum wrong", {"transposed", "permuted", "broadcast"}, lambda a, b: a[:, None] - b[None, :],
     [lambda g, y, a, b: g.sum(0), lambda g, y, a, b: -g.sum(0)], [values(3), values(3)]),
    ("pairwise: minus lost", {"sign"}, lambda a, b: a[:, None] - b[None, :],
     [lambda g, y, a, b: g.sum(1), lambda g, y, a, b: g.sum(0)], [values(3), values(3)]),
    ("mul by size of batch in mean of squares", {"factor"}, lambda x: (x * x).mean(0), [lambda g, y, x: 2 * g * x],
     [values(4, 2)]),
    ("lstm cell: forget gate at the input gate's", {"swapped", "missing factor"}, lambda i, f, c: sig(f) * c + sig(i),
     [lambda g, y, i, f, c: g * sig(i) * sig(-i), lambda g, y, i, f, c: g * c * sig(i) * sig(-i),
      lambda g, y, i, f, c: g * sig(f)], [values(3), values(3), values(3)]),
    ("lstm cell: slope of tanh lost", {"missing factor"}, lambda i, c: sig(i) * np.tanh(c),
     [lambda g, y, i, c: g * np.tanh(c) * sig(i) * sig(-i), lambda g, y, i, c: g * sig(i)], [values(3), values(3)]),
    ("softsign: square lost", {"missing factor"}, lambda x: x / (1 + abs(x)), [lambda g, y, x: g / (1 + abs(x))],
     [values(5)]),
    ("logdet not inverted", {"transposed", "missing factor"}, lambda a: np.linalg.slogdet(a)[1],
     [lambda g, y, a: g * a], [values(3, 3) + 3 * np.eye(3)]),
    ("arccos: minus lost, near the edge", {"sign"}, np.arccos, [lambda g, y, x: g / np.sqrt(1 - x * x)],
     [np.array([-0.5, -0.2, -0.74, -0.69])]),
    ("off by 1e-7", {"factor"}, np.exp, [lambda g, y, x: g * y * (1 + 1e-7)], [values(4)]),
    ("cubic norm without its power", {"missing factor", "factor"}, lambda x: (abs(x) ** 3).sum(-1) ** (1 / 3),
     [lambda g, y, x: g[..., None] * x * abs(x)], [values(3, 4)]),
]  # fmt: skip

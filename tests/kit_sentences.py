"""What a report says of each of `kit_mistakes.MISTAKES`: the cause in a word, and the whole sentence."""

NO_NAME = "none of the usual slips (sign, factor, transposed, swapped, lost sum, ...); perhaps the formula"
SAID = {
    "relu derivative flipped": ("unknown", NO_NAME),
    "elu slope lost on negatives": (
        "few elements",
        "right but for few elements: (0,), (1,) (an edge, a special case, an index?)",
    ),
    "elu negative y for y+1": (
        "few elements",
        "right but for few elements: (2,), (3,), (5,) (an edge, a special case, an index?)",
    ),
    "sigmoid by x: x(1-x)": ("swapped", "it is g × x × (1 - x); the derivative is g × y × (1 - y)"),
    "tanh 1-x²": ("swapped", "it is g × (1 - x²); the derivative is g × (1 - y²)"),
    "tanh 1-y": ("missing factor", "a factor (1 + y) is missing"),
    "log g/y": ("missing factor", "a factor y / x is missing"),
    "sqrt 2/y": ("factor", "off by a constant factor of 4"),
    "sqrt 1/(2x)": ("missing factor", "a factor y is missing"),
    "reciprocal sign": ("sign", "the sign is wrong"),
    "reciprocal -g*y": ("missing factor", "a factor y is missing"),
    "division by b lost square": ("missing factor", "a factor x1 is too much"),
    "division sign": ("sign", "the sign is wrong"),
    "power: y log b for y log a": ("swapped", "it is g × y × log(x1); the derivative is g × y × log(x0)"),
    "power b-1 lost": ("missing factor", "a factor x0 is too much"),
    "exp2 without log2": ("factor", "off by a constant factor of 1.4427"),
    "log10 as log": ("factor", "off by a constant factor of 2.30259"),
    "sin degrees": ("factor", "off by a constant factor of 57.2958"),
    "atan2 swapped": (
        "swapped",
        "it is the gradient of input 1: are the rules in the wrong order?; or: it is g × -1 / x0 × sin(y)²; "
        "the derivative is g / x1 × cos(y)²",
    ),
    "hypot swapped": ("swapped", "it is the gradient of input 1: are the rules in the wrong order?"),
    "max to all equal share": ("broadcast", "spread evenly along axis 1: it belongs to some elements only"),
    "max argmin": ("permuted", "the right numbers in the wrong places"),
    "sum over wrong axis spread": (
        "broadcast",
        "the cotangent g is repeated along axis 1 instead: is keepdims missing?; or: its axes are exchanged: "
        "transposed by (1, 0)",
    ),
    "mean no division": (
        "factor",
        "off by a constant factor of 3 = 3, a number of elements: a mean for a sum, or a sum for a mean?",
    ),
    "mean divides by total": (
        "factor",
        "off by a constant factor of 0.25 = 1/4, a number of elements: a mean for a sum, or a sum for a mean?",
    ),
    "std lost 1/n": (
        "factor",
        "off by a constant factor of 5 = 5, a number of elements: a mean for a sum, or a sum for a mean?",
    ),
    "var without centring": ("missing term", "a mean over axis 1 is held constant, or not subtracted"),
    "softmax lost sum": ("missing term", "a norm, or a sum over axis 1 is held constant, or not subtracted"),
    "softmax sum(g) for sum(gy)": (
        "missing term",
        "a norm, or a sum over axis 1 is held constant, or not subtracted",
    ),
    "log softmax lost exp": ("swapped", "in log_softmax's rule y stands for exp(y)"),
    "logsumexp over all": ("factor", "off by a factor that is the same over axis 1, of another sum or norm, say"),
    "cross-entropy without minus onehot": (
        "few elements",
        "right but for few elements: (0, 0), (1, 2) (an edge, a special case, an index?)",
    ),
    "norm squared rule": ("missing factor", "a factor y is too much"),
    "norm rule 2x/y": ("factor", "off by a constant factor of 2"),
    "cumsum not reversed": ("transposed", "the Jacobian is not transposed: J g for Jᵀ g"),
    "cumprod naive": ("off-diagonal", "only the diagonal of the Jacobian is used"),
    "prod without division": ("missing factor", "a factor x is too much"),
    "diff sign": ("sign", "the sign is wrong"),
    "diff one end lost": ("few elements", "right but for few elements: (0,) (an edge, a special case, an index?)"),
    "reverse not undone": ("permuted", "the cotangent g is used in reverse order along axis 0"),
    "roll same way": (
        "transposed",
        "the Jacobian is not transposed: J g for Jᵀ g; or: the right numbers in the wrong places",
    ),
    "transpose perm not inverted": (
        "transposed",
        "its axes are exchanged: transposed by (2, 0, 1); or: the right numbers in the wrong places",
    ),
    "reshape order F": ("permuted", "the right numbers in the wrong places"),
    "take overwrite": (
        "repeated index",
        "only one use counts of an element used several times: overwritten, not accumulated",
    ),
    "take off by one": ("permuted", "the right numbers in the wrong places"),
    "pad: cut the wrong side": ("permuted", "the right numbers in the wrong places"),
    "concat swapped halves": ("swapped", "it is the gradient of input 1: are the rules in the wrong order?"),
    "outer swapped": ("swapped", "it is the gradient of input 1: are the rules in the wrong order?"),
    "outer transposed g": ("transposed", "the cotangent g is transposed before it is used"),
    "matmul b not transposed": ("transposed", "the Jacobian is not transposed: J g for Jᵀ g"),
    "matmul order": ("transposed", "it is x1ᵀ @ g; the derivative is g @ x1ᵀ"),
    "linear dW transposed": (
        "transposed",
        "its axes are exchanged: transposed by (1, 0); or: the right numbers in the wrong places",
    ),
    "linear bias first row": (
        "broadcast",
        "not summed over axis 0 of the result: only the first contribution along it counts",
    ),
    "linear bias mean": (
        "factor",
        "off by a constant factor of 0.25 = 1/4, a number of elements: a mean for a sum, or a sum for a mean?",
    ),
    "scalar times array, unsummed mean": (
        "factor",
        "off by a constant factor of 0.25 = 1/4, a number of elements: a mean for a sum, or a sum for a mean?",
    ),
    "inv sign": ("sign", "the sign is wrong"),
    "inv one side": ("transposed", "it is -yᵀ @ g; the derivative is -yᵀ @ g @ yᵀ"),
    "det untransposed": (
        "transposed",
        "its axes are exchanged: transposed by (1, 0); or: the right numbers in the wrong places",
    ),
    "logdet sign": ("sign", "the sign is wrong"),
    "trace of product": (
        "transposed",
        "its axes are exchanged: transposed by (1, 0); or: the right numbers in the wrong places",
    ),
    "quadratic form, symmetric assumed": ("unknown", NO_NAME),
    "conv valid flipped": ("permuted", "it is right for input 1 reversed along axis 0: a kernel not flipped?"),
    "dropout mask not scaled": ("factor", "off by a constant factor of 0.75 = 3/4"),
    "clip passes everything": (
        "few elements",
        "right but for few elements: (0,), (3,) (an edge, a special case, an index?)",
    ),
    "leaky slope wrong": ("few elements", "right but for few elements: (4,) (an edge, a special case, an index?)"),
    "huber no clip": ("few elements", "right but for few elements: (0,), (3,) (an edge, a special case, an index?)"),
    "gelu approx for exact": (
        "not float64",
        "it is right to a few digits only: is something computed in float32, rounded, or an approximation?",
    ),
    "softplus exp(x)": ("missing factor", "a factor exp(y) is too much"),
    "softplus 1-exp(y)": ("missing factor", "a factor -exp(y) is too much"),
    "mse missing 2": ("factor", "off by a constant factor of 0.5 = 1/2"),
    "mse target sign": ("sign", "the sign is wrong"),
    "bce: y-p sign": ("sign", "the sign is wrong"),
    "bce: on probabilities, no denominator": ("missing factor", "a factor x × (1 - x) is too much"),
    "g squared": ("cotangent ignored", "the cotangent g counts twice: g² for g"),
    "g abs": ("sign", "the sign is wrong in some elements"),
    "g sum": ("cotangent ignored", "the cotangent g is replaced by its sum"),
    "g clipped": ("cotangent ignored", "it is not linear in the cotangent g: is g clipped, or a power or abs of it?"),
    "second operand detached": ("detached", "no gradient arrives: the input is detached, or its rule returns zeros"),
    "saved mask of last call": (
        "stale",
        "the gradient of input 0 (shape (4,)) changes if f is called once more before backward: is what a "
        "rule reads kept outside the call?",
    ),
    "saved x of last call": (
        "stale",
        "the gradient of input 0 (shape (4,)) changes if f is called once more before backward: is what a "
        "rule reads kept outside the call?",
    ),
    "shared out buffer": ("mutation", "f changes in place what it is given: output array is read-only"),
    "rule changes g": (
        "mutation",
        "a rule changes in place what it is given: output array is read-only, what a graph keeps is not "
        "written to: compute a new array, each time",
    ),
    "integer division": ("unknown", NO_NAME),
    "rounded to 3": (
        "not float64",
        "it is right to a few digits only: is something computed in float32, rounded, or an approximation?",
    ),
    "float16 factor": (
        "not float64",
        "it is right to a few digits only: is something computed in float32, rounded, or an approximation?",
    ),
    "scaled by batch": (
        "factor",
        "off by a constant factor of 0.25 = 1/4, a number of elements: a mean for a sum, or a sum for a mean?",
    ),
    "rms norm constant": ("missing term", "a norm over axis 1 is held constant, or not subtracted"),
    "batch norm mean constant": ("missing term", "a mean over axis 0 is held constant, or not subtracted"),
    "weight sharing: only first use": (
        "broadcast",
        "not summed over axis 0 of the result: only the first contribution along it counts",
    ),
    "lstm gate: the other gates slope": ("missing factor", "a factor tanh(x1) is missing"),
    "product: square of the other operand": ("missing factor", "a factor 1/2 × x1 is too much"),
    "a b² , 2 lost": ("factor", "off by a constant factor of 0.5 = 1/2"),
    "chain: outer derivative at wrong point": ("unknown", NO_NAME),
    "chain: inner derivative lost": ("missing factor", "a factor 2 × x is missing"),
    "chain: factor 3 lost": ("factor", "off by a constant factor of 0.333333 = 1/3"),
    "sin cos sign": ("sign", "the sign is wrong"),
    "cos kept: -cos": ("unknown", "it is g × -y; the derivative is g × -sin(x)"),
    "sin rule sin": ("unknown", "it is g × y; the derivative is g × cos(x)"),
    "arctan 1/(1-x²)": ("sign", "it is g / (1 - x²); the derivative is g / (1 + x²)"),
    "arctan no denominator": (
        "missing factor",
        "the cotangent g is passed on as it is: the derivative itself is missing",
    ),
    "arcsin 1/(1-x²)": ("missing factor", "a factor cos(y) is missing"),
    "triu: passes all": (
        "few elements",
        "right but for few elements: (1, 0), (2, 0), (2, 1) (an edge, a special case, an index?)",
    ),
    "triu: as tril": (
        "few elements",
        "right but for few elements: (0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1) (an edge, a special "
        "case, an index?)",
    ),
    "diag to ones": (
        "few elements",
        "right but for few elements: (0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1) (an edge, a special "
        "case, an index?)",
    ),
    "kron sum wrong": (
        "broadcast",
        "summed over the wrong axis of the result: axis 0; or: the cotangent g is transposed before it is "
        "used",
    ),
    "pairwise: minus lost": ("sign", "the sign is wrong"),
    "mul by size of batch in mean of squares": (
        "factor",
        "off by a constant factor of 4 = 4, a number of elements: a mean for a sum, or a sum for a mean?",
    ),
    "lstm cell: forget gate at the input gate's": (
        "swapped",
        "it is g × x2 × sigmoid'(x0); the derivative is g × x2 × sigmoid'(x1)",
    ),
    "lstm cell: slope of tanh lost": ("missing factor", "a factor (1 - tanh(x1)²) is missing"),
    "softsign: square lost": ("missing factor", "a factor y / x is missing"),
    "logdet not inverted": ("transposed", "it is x0 @ g; the derivative is inv(x0)ᵀ @ g"),
    "arccos: minus lost, near the edge": ("sign", "the sign is wrong"),
    "off by 1e-7": ("factor", "off by a constant factor of 1 +1e-07; if f is iterated to a tolerance, pass noise="),
    "cubic norm without its power": (
        "factor",
        "off by a factor that is the same over axis 1, of another sum or norm, say",
    ),
}  # fmt: skip

"""Rules of other libraries, where none of them is installed: what PyTorch and autograd look like from outside."""

import sys
import types

import numpy as np
import pytest

from tinygrad_rnn.testing import CheckError, GradcheckError, check_primitive, gradcheck
from tinygrad_rnn.testing.adapters import as_primitive, library_of

X = np.array([[0.5, -1.0, 2.0], [1.5, 0.3, -0.7]])


class Array:
    """A tensor of PyTorch: an array that knows what it was made of."""

    def __init__(self, array, requires_grad=False):
        self.array, self.requires_grad, self.made = np.asarray(array), requires_grad, None

    def detach(self):
        return Array(self.array)

    def numpy(self):
        if self.requires_grad:
            raise RuntimeError("Can't call numpy() on Tensor that requires grad.")
        return self.array


class Function:
    """The base class of a rule."""

    leaves = False

    @classmethod
    def apply(cls, *xs):
        context = types.SimpleNamespace()
        y = Array(cls.forward(context, *(x.array if isinstance(x, Array) else x for x in xs)), not cls.leaves)
        y.made = cls, context, xs
        return y


Function.__module__ = "torch.autograd.function"


def grad(y, xs, g, allow_unused=False):
    rule, context, inputs = y.made
    assert isinstance(g, Array) and not any(x.requires_grad for x in inputs if x not in xs and isinstance(x, Array))
    found = dict(zip(map(id, inputs), rule.backward(context, g.array), strict=True))
    if not allow_unused and any(found[id(x)] is None for x in xs):
        raise RuntimeError("One of the differentiated Tensors appears to not have been used in the graph")
    return [None if found[id(x)] is None else Array(found[id(x)]) for x in xs]


@pytest.fixture
def torch(monkeypatch):
    module = types.SimpleNamespace(tensor=Array, from_numpy=Array, autograd=types.SimpleNamespace(grad=grad))
    monkeypatch.setitem(sys.modules, "torch", module)


def scaled(share=1.0, **more):
    class Scaled(Function):
        @staticmethod
        def forward(ctx, x, unused, index, scale=1.0):
            ctx.saved = x, index, scale
            return scale * np.tanh(x)[index]

        @staticmethod
        def backward(ctx, g):
            x, index, scale = ctx.saved
            found = np.zeros_like(x)
            np.add.at(found, index, g)
            return share * scale * found * (1 - np.tanh(x) ** 2), None, None, None

    return type("Scaled", (Scaled,), more)


@pytest.mark.parametrize(("share", "cause"), [(1.0, None), (-1.0, "sign"), (0.5, "factor"), (0.0, "detached")])
def test_a_function_of_torch(torch, share, cause):
    operands = (X, X[0], np.array([0, 1, 1]))
    options = {"operands": operands, "static": {"scale": 2.0}, "skip": ["float32"]}
    if cause is None:
        report = check_primitive(scaled(), **options)
        assert report.name == "torch: Scaled" and len(report.passed) == 7 and report.compared > 5
    else:
        with pytest.raises(CheckError, match="torch: Scaled: ") as caught:
            check_primitive(scaled(share), **options)
        assert caught.value.failed["first order"].cause == cause
    op = as_primitive(scaled(share))
    assert op.operand_names == ("x", "unused", "index") and np.allclose(op(*operands), np.tanh(X)[operands[2]])


def test_a_function_of_torch_whose_result_needs_no_gradient(torch):
    with pytest.raises(GradcheckError) as caught:
        gradcheck(as_primitive(scaled(leaves=True)), X, X[0], np.array([0]))
    assert caught.value.cause == "detached"


def test_a_cotangent_that_torch_changes_in_place(torch):
    class Double(Function):
        @staticmethod
        def forward(x):
            return 2 * x

        @staticmethod
        def setup_context(ctx, inputs, output):
            pass

        @staticmethod
        def backward(ctx, g):
            g *= 2
            return (g,)

        @classmethod
        def apply(cls, x):
            y = Array(cls.forward(x.array), True)
            y.made = cls, None, (x,)
            return y

    with pytest.raises(GradcheckError) as caught:
        gradcheck(as_primitive(Double), X)
    assert caught.value.cause == "mutation"


@pytest.mark.parametrize("share", [1.0, -1.0])
def test_a_primitive_of_autograd(monkeypatch, share):
    def sine(x, scale=1.0):
        called.append((x, scale))
        return scale * np.sin(x)

    def make_vjp(f):
        def at(xs):
            y = f(xs)
            (x, scale), _ = called.pop(), called.clear()
            assert x is xs[0]

            def pull(g):
                assert g is not None
                return (share * scale * g * np.cos(x),)

            return pull, y

        return at

    called = []
    sine._is_autograd_primitive = True
    monkeypatch.setitem(sys.modules, "autograd", types.SimpleNamespace(make_vjp=make_vjp))
    op = as_primitive(sine)
    if share == 1.0:
        assert gradcheck(lambda x: op(x, scale=3.0), X).compared == 6 and np.allclose(op(X), np.sin(X))
        assert check_primitive(sine, shapes=[(3,)], skip=["float32"]).name == "autograd: sine"
    else:
        with pytest.raises(GradcheckError) as caught:
            gradcheck(op, X)
        assert caught.value.cause == "sign"


def test_whose_a_rule_is():
    """What a library has besides its rules is none of them."""
    ours = type("Ours", (), {"defvjp": print})
    theirs = type("Jitted", (), {"__module__": "jax._src.pjit"})
    assert library_of(ours()) == library_of(theirs()) == library_of(np.sin) == library_of(Function) == ""
    assert library_of(type("Rule", (theirs,), {"defvjp": print, "__module__": "jax._src"})()) == "jax"
    assert library_of(scaled()) == "torch" and library_of(type("Deeper", (scaled(),), {})) == "torch"

"""Rules of other libraries go through the same battery, and no library is imported unasked."""

import subprocess
import sys
import types

import numpy as np
import pytest

import tinygrad_rnn as tg
from tinygrad_rnn.testing import CheckError, GradcheckError, check_primitive, gradcheck
from tinygrad_rnn.testing.adapters import as_primitive
from tinygrad_rnn.testing.command import check_file

X = np.array([[0.5, -1.0, 2.0], [1.5, 0.3, -0.7]])
FEW = {"shapes": [(3,), (2, 2)]}


def of_torch(share=1.0):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")

    class Scaled(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, index, scale=1.0):
            ctx.save_for_backward(x, index)
            ctx.scale = scale
            return scale * torch.tanh(x)[index]

        @staticmethod
        def backward(ctx, g):
            x, index = ctx.saved_tensors
            found = torch.zeros_like(x).index_add(0, index, g)
            return share * ctx.scale * found * (1 - torch.tanh(x) ** 2), None, None

    return Scaled


def of_autograd(share=1.0):
    extend = pytest.importorskip("autograd.extend")

    @extend.primitive
    def scaled(x, scale):
        return scale * np.tanh(x)

    extend.defvjp(scaled, lambda y, x, scale: lambda g: share * scale * g * (1 - np.tanh(x) ** 2), argnums=[0])
    return scaled


def of_jax(monkeypatch, share=1.0):
    """What JAX looks like from outside: it cannot be installed wherever these tests run."""
    switched = []

    class Switch:
        def __init__(self, on):
            switched.append(on)

        __enter__ = __exit__ = lambda self, *_: None

    class custom_vjp:
        def __init__(self, fun):
            self.fun, self.__name__ = fun, fun.__name__

        def defvjp(self, forward, backward):
            self.forward, self.backward = forward, backward

        def __call__(self, *xs):
            return RECORD.setdefault("y", self.fun(*xs))

    custom_vjp.__module__ = "jax._src.custom_derivatives"

    def vjp(f, *xs):
        RECORD.clear()
        y = f(*xs)
        return y, lambda g: [share * 2.0 * g * (1 - np.tanh(xs[0]) ** 2)]

    RECORD = {}
    jax = types.SimpleNamespace(vjp=vjp, numpy=np)
    monkeypatch.setitem(sys.modules, "jax", jax)
    monkeypatch.setitem(sys.modules, "jax.experimental", types.SimpleNamespace(enable_x64=Switch))

    def scaled(x, scale):
        return scale * np.tanh(x)

    return custom_vjp(scaled), switched


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("share", [1.0, -1.0])
@pytest.mark.parametrize("library", ["torch", "autograd", "jax"])
def test_the_battery_on_a_rule_of_another_library(library, share, monkeypatch):
    before = dict(tg.OPS)
    if library == "torch":
        rule, options = of_torch(share), {"operands": (X, np.array([0, 1, 1])), "static": {"scale": 2.0}}
    elif library == "autograd":
        rule, options = of_autograd(share), {"static": {"scale": 2.0}, **FEW}
    else:
        (rule, switched), options = of_jax(monkeypatch, share), {"static": {"scale": 2.0}, **FEW}
    if share == 1.0:
        report = check_primitive(rule, **options)
        assert len(report.passed) == 8 and report.compared > 5 and report.name.startswith(f"{library}: ")
    else:
        with pytest.raises(CheckError, match=r"again: gradcheck\(partial\(as_primitive\(\w+, \['scale'\]\), scale=2"):
            check_primitive(rule, **options)
        with pytest.raises(GradcheckError) as caught:
            static = {"scale": 2.0}
            gradcheck(lambda *xs: as_primitive(rule, static)(*xs, **static), *options.get("operands", (X,)))
        assert caught.value.cause == "sign"
    assert tg.OPS == before
    assert library != "jax" or (switched and all(switched)), "in float64"


def test_what_a_default_is_for_is_no_operand():
    rule = of_torch()
    assert as_primitive(rule).operand_names == ("x", "index")
    assert np.allclose(as_primitive(rule)(X, np.array([1])), np.tanh(X)[[1]])
    assert as_primitive(rule, ["index"]).operand_names == ("x",)


def test_a_cotangent_that_is_changed_in_place_is_named():
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")

    class Double(torch.autograd.Function):
        @staticmethod
        def forward(x):
            return 2 * x

        @staticmethod
        def setup_context(ctx, inputs, output):
            pass

        @staticmethod
        def backward(ctx, g):
            return g.mul_(2)

    assert as_primitive(Double).operand_names == ("x",)
    with pytest.raises(GradcheckError) as caught:
        gradcheck(as_primitive(Double), X)
    assert caught.value.cause == "mutation"


@pytest.mark.parametrize(("what", "said"), [(np.sin, "not 'sin'"), (3, "not 3"), (type("Mine", (), {}), "not 'Mine'")])
def test_anything_else_is_refused(what, said):
    with pytest.raises(TypeError, match=f"a torch.autograd.Function, a jax.custom_vjp or a primitive of .*, {said}"):
        check_primitive(what)


def test_operands_without_names_are_refused():
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    many = type("Many", (torch.autograd.Function,), {"forward": staticmethod(lambda ctx, *xs: xs[0])})
    with pytest.raises(TypeError, match="Many takes any number of operands"):
        check_primitive(many)


def test_no_library_is_imported_unless_a_rule_is_its_own():
    code = "import sys, tinygrad_rnn.testing.adapters; print({'torch', 'jax', 'autograd'} & {*sys.modules})"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "set()\n"


@pytest.mark.filterwarnings("ignore")
def test_a_file_with_rules_of_another_library_is_checked(tmp_path):
    pytest.importorskip("autograd.extend")
    (tmp_path / "mine.py").write_text(
        "import numpy as np\nfrom autograd.extend import primitive, defvjp\nfrom autograd.numpy import sin\n"
        "@primitive\ndef double(x):\n    return 2 * x\ndefvjp(double, lambda y, x: lambda g: 2 * g)\n"
        "@primitive\ndef half(x):\n    return x / 2\ndefvjp(half, lambda y, x: lambda g: 2 * g)\n"
        'CHECK = {"double": {"shapes": [(3,)]}, "half": {"shapes": [(3,)]}}\n'
    )
    said = []
    assert check_file(tmp_path / "mine.py", lambda *what: said.append(what[:2])) == 1
    assert said == [("ok", "double"), ("FAILED", "half")]

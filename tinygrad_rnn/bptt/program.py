"""`derive_bptt`: from a cell to a program for backpropagation through time, as source code.

After this file the reader knows the whole way: trace a step and the loss, run the rules on the traces, rewrite, write
the source, compile it as it stands, and compare it with the engine on the example before anybody gets to use it.
"""

from __future__ import annotations

import copy
import linecache
import warnings
from collections.abc import Collection, Mapping, Sequence
from importlib import import_module
from itertools import count
from typing import Any

import numpy as np

from ..arguments import flag, refusal
from ..autodiff import grad
from ..files import printable
from ..functions import sum
from ..nn.module import refuse_twice
from ..nn.state import parts_of, state_of
from ..nn.unroll import CellLike, unroll
from ..scope import no_grad, recorded
from ..symbolic.values import at_steps
from ..tensor import GradientError, Tensor, as_array, raw
from .emit import Source
from .loss import Loss, LossCheck, call, disagreeing, eager, jitter, leave_out, trace_loss
from .passes import LARGE, REWRITES, SAVE_CALLS, STEP_REWRITES
from .plan import LOOPS
from .rewrites import share, simplify
from .step import Step, derive_step, form_of, title, topological, trace_step
from .text import is_view

FEW = 9


class Unsupported(Exception):
    """What is not compiled, and why."""


class Compiled:
    """How a program is compiled: entered by `tinygrad_rnn.fast`, which stands above this and is optional."""

    uses: Collection[str] = ()
    source: type[Source] = Source


COMPILED = Compiled()

_serial = count(1)


class Gradients(dict[str, Any]):
    """Gradients by parameter name, and those of the "inputs" and of the first "state"."""

    def __missing__(self, key: str) -> Any:
        if key == "inputs":
            raise KeyError("no gradient of the inputs: derive with an example of inputs that requires a gradient")
        raise KeyError(key)


class Program:
    """Forward and backward through an unrolled cell as one function, derived by `derive_bptt`.

    Attributes
    ----------
    source : str
        The program, as it is executed. A notebook shows it, highlighted.
    constants : dict of str to array
        Arrays that the cell or the loss holds, by the name that the source gives them.
    rewrites : tuple of str
        Those it was derived with.
    compiled : bool
        Whether its loops are machine code.
    calls : int
        NumPy calls in a step of its loops, if they are not.
    """

    def __init__(self, source: Source, step: Step, check: LossCheck | None, subject: str) -> None:
        self.source, self.rewrites = source.text, tuple(source.rewrites)
        self.compiled = type(source) is not Source
        self.calls = len([node for part in LOOPS for node in source.plan.of(part) if not is_view(node)])
        self._step, self._check, self._subject = step, check, subject
        filename = source.file() or f"<derived BPTT {next(_serial)}>"
        self.constants = dict(source.constants)
        namespace = {"__name__": __name__, **self.constants}
        exec(compile(self.source, filename, "exec"), namespace)
        # So that a traceback through the program, and a debugger, show its lines.
        linecache.cache[filename] = len(self.source), None, self.source.splitlines(True), filename
        self._run = namespace["bptt"]

    def __call__(
        self,
        inputs: Any,
        state: Any,
        params: Mapping[str, Any],
        *extras: Any,
        loss: Loss | None = None,
        return_state: bool = False,
    ) -> Any:
        """Loss and gradients of one sequence.

        Parameters
        ----------
        inputs : array or Tensor, shape (T, ...)
            Any T; at every step of the shape and dtype of the example.
        state : array or Tensor, or a tuple of them
            Before the first step.
        params : mapping of str to array or Tensor
            ``cell.parameters()``, or arrays by the same names.
        *extras : arrays
            What the loss takes beside outputs and state, such as a target.
        loss : callable
            Only if the program was derived without one: on Tensors, differentiated by the engine, which also adds to
            ``.grad`` of the parameters that it uses.
        return_state : bool
            Return the last state too, for the next window of truncated BPTT.

        Returns
        -------
        loss : float
        gradients : dict of str to array
            By parameter name, for "state", and, if the example of the inputs required a gradient, for "inputs".
        state : array or tuple of arrays
            With `return_state`.

        Raises
        ------
        ValueError
            If a name, a shape or a dtype is not that of the example.
        """
        arrays = self._checked(inputs, state, params)
        if self._check is None:
            if loss is None:
                raise ValueError("the program was derived without a loss: pass loss=..., or derive with one")
            arrays.append(eager(loss, self._step.form, extras))
        else:
            if loss is not None:
                raise ValueError("the program was derived with a loss of its own: derive with loss=None to pass one")
            arrays += self._given(extras, len(arrays[0]), self._check)
        value, gradients, last = self._run(*arrays)
        result = value.item(), Gradients(gradients)
        return (*result, last) if return_state else result

    def _checked(self, inputs: Any, state: Any, params: Mapping[str, Any]) -> list[Any]:
        """The arguments as arrays, in the order of the program."""
        step = self._step
        x = _array(inputs)
        if x.ndim != len(step.x.shape) + 1 or not len(x):
            wanted = ", ".join(["T", *map(str, step.x.shape)])
            raise ValueError(f"inputs of shape {x.shape}: the program takes a sequence of shape ({wanted})")
        _fits(x[0], step.x, "each step of the inputs")
        states = parts_of(state)
        if len(states) != len(step.states):
            raise ValueError(f"the state is made of {len(step.states)} array(s), not {len(states)}")
        if params.keys() != step.parameters.keys():
            missing = ", ".join(sorted(step.parameters.keys() - params.keys())) or "none"
            unknown = ", ".join(sorted(params.keys() - step.parameters.keys())) or "none"
            raise ValueError(printable(f"the parameters are not the cell's: missing {missing}; unknown {unknown}"))
        arrays = [x, *(_fits(a, s.leaf, f"state {s.name}") for a, s in zip(states, step.states, strict=True))]
        return arrays + [_fits(params[name], leaf, f"parameter {name}") for name, leaf in step.parameters.items()]

    def _given(self, extras: Sequence[Any], steps: int, check: LossCheck) -> list[Any]:
        """What the loss takes beside outputs and state, as arrays; the loss is compared once for each number of steps.

        A loss may do at any number of steps something else: take the mean of 20 outputs if there are more, say.
        """
        wanted = self._step.extras
        if len(extras) != len(wanted):
            raise ValueError(f"the loss takes {len(wanted)} more argument(s), not {len(extras)}")
        arrays = [_fits(e, node, node.name, steps) for e, node in zip(extras, wanted, strict=True)]
        if changed := check.outside.changed():
            raise ValueError(
                f"{printable(changed)}, which the loss takes from outside, is not what it was when the program was "
                "derived: let the loss take it as an argument, or derive again"
            )
        if steps not in check.lengths and not (check.free and check.at(steps, arrays)):
            raise ValueError(
                f"inputs of {steps} step(s): the loss was derived for {check.steps} step(s), and is not of the same "
                f"form for {steps}; let it take what depends on T as an argument, or derive again with such an example"
            )
        return arrays

    def __repr__(self) -> str:
        return f"Program({self._subject}, {len(self.source.splitlines())} lines)"

    def _repr_markdown_(self) -> str:
        return f"```python\n{self.source}```"


def _array(value: Any) -> Any:
    """An argument as an array, if it is one of those that the engine takes."""
    value = raw(value)
    return value if type(value) is np.ndarray else as_array(value)


def _form(x: Any) -> str:
    return f"{x.dtype} of shape {x.shape}"


def _fits(value: Any, node: Any, name: str, steps: int | None = None) -> Any:
    """An argument as an array, of the shape (for so many steps) and dtype that the program was derived for."""
    array = _array(value)
    shape = node.shape if steps is None else at_steps(node.shape, steps)
    if array.shape != shape or array.dtype != node.dtype:
        remedy = "convert it, or derive again with such an example"
        raise ValueError(
            f"{printable(name)} is {_form(array)}, and the program was derived for {_form(node)}: {remedy}"
        )
    return array


def derive_bptt(
    cell: CellLike,
    loss: Loss | None = None,
    example: Sequence[Any] = (),
    rewrites: Collection[str] | None = None,
    compiled: bool = False,
    steps: Collection[str] | None = None,
) -> Program:
    """Derive backpropagation through time for a cell, as the NumPy program that an expert would have written.

    One step of the cell is traced; the rules of the page of derivatives, run on the trace, give the way back; the
    equations are rewritten and written down as source, which is compared with the engine on the example.

    Parameters
    ----------
    cell : callable ``cell(x, state) -> state`` with ``parameters()``
        Yours or ours. Its step is the same for all inputs and all t: no ``if`` on values, nothing kept in the cell.
    loss : callable, optional
        From the outputs (T, ..., H) to one number; a parameter named ``state`` or ``last...`` gets the last state
        instead, any further ones what is passed at each call (a target). Without it the loss is given at each call.
    example : tuple (inputs, state) or (inputs, state, extras ...)
        Decides all shapes and dtypes but the number of steps. If the inputs are a Tensor that requires a gradient, the
        program computes that too.
    rewrites : collection of str
        Which of `REWRITES` to apply; ``()`` gives the plain program. Default: all, or where a part of the state takes
        `LARGE` bytes, all but those that save calls and cost memory.
    compiled : bool
        Compile its loops to machine code, which takes some seconds for a new cell or size, and half a second when it
        was done before on this machine. Needs numba, the extra ``fast``. A cell that cannot be compiled runs as NumPy,
        and a warning says why. Of the rewrites only those are applied that serve loops of one's own.
    steps : collection of str, optional
        Also give ``gradients["steps"]``, a dict by name: of each state, and of each value of the cell that is named
        here (a gate), what it is after every step and the gradient of the loss with respect to it, two arrays with a
        row per step. ``()`` gives the states alone. Such a program is not compiled.

    Returns
    -------
    Program
        ``program(inputs, state, params) -> (loss, gradients)``.

    Raises
    ------
    TraceError
        For what cannot be derived, with the line of the cell at fault.

    Examples
    --------
    >>> import numpy as np
    >>> import tinygrad_rnn as tg
    >>> cell = tg.RNNCell(2, 3, rng=0)
    >>> x, h = np.ones((5, 2)), cell.initial_state()
    >>> program = tg.derive_bptt(cell, loss=lambda state: tg.sum(state), example=(x, h))
    >>> loss, gradients = program(x, h, cell.parameters())
    >>> tg.sum(tg.unroll(cell, x)[1]).backward()
    >>> np.allclose(gradients["weight_hh"], cell.weight_hh.grad.data)
    True
    """
    unknown = sorted(set(rewrites or ()).difference(REWRITES))
    if unknown:
        raise ValueError(f"no rewrite is called {', '.join(unknown)}: there are {', '.join(REWRITES)}")
    if len(example) < 2:
        raise ValueError("example is (inputs, state): arrays of the shapes and dtypes that the program is for")
    parameters = _parameters(cell)
    inputs, state, *extras = example
    form = form_of(state)
    x, states = _array(inputs), [_array(s) for s in parts_of(state)]
    if x.ndim < 1 or not len(x):
        raise ValueError(f"inputs of shape {x.shape}: a sequence has shape (T, B, I) or (T, I), with at least one step")
    if any(s.dtype.kind != "f" for s in states):
        raise TypeError(f"a state of {', '.join(str(s.dtype) for s in states)}: make it of floats, counters as well")
    if rewrites is None:
        rewrites = set(REWRITES) - (SAVE_CALLS if max(s.nbytes for s in states) >= LARGE else set())
    needs = isinstance(inputs, Tensor) and inputs.requires_grad
    named: Any = () if steps is None else steps
    if not (isinstance(named, Collection) and all(isinstance(name, str) for name in named)):
        raise refusal("steps", steps, "names of values, or () for the states alone")
    if steps is not None and compiled:
        raise ValueError("steps= is for a program of NumPy: leave compiled out")

    if flag("compiled", compiled):
        import_module("tinygrad_rnn.fast")  # which enters itself below, or says what to install

    def derived(compiled: bool) -> Program:
        step, trace = trace_step(cell, parameters, x, state_of(states, form), needs)
        with no_grad():
            outputs, last = unroll(_twin(cell), Tensor(x), state_of([Tensor(s) for s in states], form))
        check = None
        if loss is None:
            leave_out(step, raw(outputs))
        else:
            finals, more = [raw(s) for s in parts_of(last)], [_array(e) for e in extras]
            nodes, check = trace_loss(step, loss, raw(outputs), finals, more)
            step.traced += nodes
        derive_step(step, trace, steps)
        simplify(step)
        names = [name for name in REWRITES if name in rewrites and not (compiled and name not in COMPILED.uses)]
        for name, rewrite in STEP_REWRITES.items():
            if name in names:
                if "share" in names:  # again and again: a rewrite may make what there is
                    share(step)
                rewrite(step)
        source = (COMPILED.source if compiled else Source)(step, names, title(cell))
        program = Program(source, step, check, title(cell))
        _check(program, cell, loss, x, states)
        step.traced.clear()
        for node in topological(step.roots()):  # numbers of the example, which only the writer asks for
            node.origins, node.value = (), None if node.args else node.value
        return program

    if compiled:
        try:
            return derived(True)
        except (Unsupported, GradientError) as error:
            warnings.warn(f"{title(cell)} runs as NumPy, not compiled: {printable(str(error))}", stacklevel=2)
    return derived(False)


def _parameters(cell: CellLike) -> Mapping[str, Tensor]:
    """The parameters of a cell, each once and by a name of its own."""
    parameters: Any = cell.parameters()
    pairs: Any = parameters.items() if isinstance(parameters, Mapping) else [(None, None)]
    if not all(isinstance(name, str) and isinstance(p, Tensor) for name, p in pairs):
        raise TypeError("cell.parameters() is to be a dict of Tensors by their names")
    if taken := sorted({"inputs", "state", "steps"} & parameters.keys()):
        raise ValueError(f"a parameter is called {taken[0]!r}, as is a gradient of another kind: rename it")
    refuse_twice(pairs)
    return dict(pairs)


def _twin(cell: CellLike) -> CellLike:
    """A copy with the same parameters, so that a cell which keeps something is left as it was."""
    return copy.deepcopy(cell, {id(p): p for p in cell.parameters().values()})


def _check(program: Program, cell: CellLike, loss: Loss | None, x: Any, states: Sequence[Any]) -> None:
    """Compare with the engine: on the example, and at other values and a few steps, to see what the trace did not."""
    check, rng = program._check, np.random.default_rng(0)
    if check is not None and check.free:
        check.free = check.all()  # no longer, if a rewrite has read a length off the example
    _compare(program, cell, loss, x, states, check.extras if check else ())
    if check is None or (check.free and check.at(FEW, check.given(FEW))):
        x = np.resize(x, (FEW, *x.shape[1:]))
    for _ in range(0, FEW, len(x)):
        x, *states = (np.asarray(2 * rng.normal(size=a.shape), a.dtype) for a in (x, *states))
        _compare(program, cell, loss, x, states, check.given(len(x)) if check else (), only_finite=True)


def _compare(
    program: Program, cell: CellLike, loss: Loss | None, x: Any, states: Any, extras: Any, only_finite: bool = False
) -> None:
    """Refuse a program that does not do what the engine does; `only_finite` where these numbers may make no sense."""
    form, needs = program._step.form, program._step.x.needs

    def by_engine(arrays: Any) -> dict[str, Any]:
        x, *states = arrays
        with recorded(), np.errstate(all="ignore"):
            inputs, first = Tensor(x, requires_grad=needs), [Tensor(s, requires_grad=True) for s in states]
            outputs, last = unroll(_twin(cell), inputs, state_of(first, form))
            value = call(loss or _any_loss, {"outputs": outputs, "state": last}, extras)
            of = {name: p for name, p in cell.parameters().items() if p.requires_grad}
            of |= {"inputs": inputs} if needs else {}
            of |= {f"state {i}": s for i, s in enumerate(first)}
            gradients = grad(value, list(of.values()), allow_unused=True)
        return {"the loss": value.data} | {name: g.data for name, g in zip(of, gradients, strict=True)}

    expected = by_engine([x, *states])
    if only_finite and not all(np.isfinite(b).all() for b in expected.values()):
        return
    with np.errstate(all="ignore"):
        got, gradients = program(
            x, states, cell.parameters(), *([] if loss is None else extras), loss=_any_loss if loss is None else None
        )
    found = {"the loss": np.reshape(got, expected["the loss"].shape)}
    found |= {k: g for k, g in gradients.items() if k != "state"}
    found |= {f"state {i}": g for i, g in enumerate(parts_of(gradients["state"]))}
    wrong = disagreeing(found, expected)
    if wrong:
        wrong = disagreeing(found, expected, jitter(by_engine, expected, [x, *states]))
    if wrong:
        raise GradientError(
            f"the program derived of {title(cell)} does not agree with the engine on {printable(', '.join(wrong))}, so "
            "it is not given out. Either the cell or the loss does something else each time that it is called, or "
            "asks of what class a value is; or we are wrong: then please report it"
        )


def _any_loss(outputs: Any, state: Any) -> Any:
    return sum(outputs) + sum(parts_of(state)[-1])

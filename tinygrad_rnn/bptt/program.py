"""`derive_bptt`: from a cell to a program for backpropagation through time, as source code.

After this file the reader knows the whole way: trace a step and the loss, run the rules on the traces, rewrite, write
the source, compile it as it stands, and compare it with the engine on the example before anybody gets to use it.
"""

from __future__ import annotations

import copy
import linecache
from collections.abc import Collection, Mapping, Sequence
from itertools import count
from typing import Any

import numpy as np

from ..autodiff import grad
from ..functions import sum
from ..nn.unroll import CellLike, unroll
from ..scope import no_grad, recorded
from ..tensor import GradientError, Tensor, raw
from .emit import Source
from .html import highlighted
from .loss import Loss, call, eager, leave_out, resized, trace_loss
from .passes import REWRITES, STEP_REWRITES
from .rewrites import share, simplify
from .step import Step, arrays_of, derive_step, form_of, state_of, title, trace_step

MOST_CHECKED = 8
TOLERANCE = {"float32": 1e-3, "float64": 1e-9}  # of the largest element; rounding over a few steps stays far below

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
        The program, as it is executed. In a notebook it shows itself, highlighted.
    constants : dict of str to array
        Arrays that the cell or the loss holds, by the name that the source gives them.
    rewrites : tuple of str
        Those it was derived with.
    """

    def __init__(self, source: Source, step: Step, steps: int | None, subject: str) -> None:
        self.source, self.rewrites = source.text, tuple(source.rewrites)
        self._step, self._steps, self._subject = step, steps, subject
        filename = f"<derived BPTT {next(_serial)}>"
        self.constants = dict(source.constants)
        namespace = dict(self.constants)
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
        if self._step.loss is None:
            if loss is None:
                raise ValueError("the program was derived without a loss: pass loss=..., or derive with one")
            arrays.append(eager(loss, self._step.form, extras))
        else:
            if loss is not None:
                raise ValueError("the program was derived with a loss of its own: derive with loss=None to pass one")
            arrays += self._given(extras)
        value, gradients, last = self._run(*arrays)
        result = float(value), Gradients(gradients)
        return (*result, last) if return_state else result

    def _checked(self, inputs: Any, state: Any, params: Mapping[str, Any]) -> list[Any]:
        """The arguments as arrays, in the order of the program."""
        step = self._step
        x = np.asarray(raw(inputs))
        if x.ndim != len(step.x.shape) + 1 or not len(x):
            wanted = ", ".join(["T", *map(str, step.x.shape)])
            raise ValueError(f"inputs of shape {x.shape}: the program takes a sequence of shape ({wanted})")
        if self._steps is not None and len(x) != self._steps:
            remedy = "let the loss take what depends on T as an argument, or derive again"
            raise ValueError(
                f"inputs of {len(x)} step(s): the loss was derived for {self._steps} step(s) only; {remedy}"
            )
        _fits(x[0], step.x, "each step of the inputs")
        states = arrays_of(state)
        if len(states) != len(step.states):
            raise ValueError(f"the state is made of {len(step.states)} array(s), not {len(states)}")
        if params.keys() != step.parameters.keys():
            missing = ", ".join(sorted(step.parameters.keys() - params.keys())) or "none"
            unknown = ", ".join(sorted(params.keys() - step.parameters.keys())) or "none"
            raise ValueError(f"the parameters are not the cell's: missing {missing}; unknown {unknown}")
        arrays = [x, *(_fits(a, s.leaf, f"state {s.name}") for a, s in zip(states, step.states, strict=True))]
        return arrays + [_fits(params[name], leaf, f"parameter {name}") for name, leaf in step.parameters.items()]

    def _given(self, extras: Sequence[Any]) -> list[Any]:
        """What the loss takes beside outputs and state, as arrays."""
        wanted = self._step.extras
        if len(extras) != len(wanted):
            raise ValueError(f"the loss takes {len(wanted)} more argument(s), not {len(extras)}")
        arrays = [np.asarray(raw(e)) for e in extras]
        for array, node in zip(arrays, wanted, strict=True):
            if array.ndim != node.ndim or array.dtype != node.dtype:
                raise ValueError(f"{node.name} is {_form(array)}, and the program was derived for {_form(node)}")
        return arrays

    def __repr__(self) -> str:
        return f"Program({self._subject}, {len(self.source.splitlines())} lines)"

    def _repr_html_(self) -> str:
        return highlighted(self.source)


def _form(x: Any) -> str:
    return f"{x.dtype} of shape {x.shape}"


def _fits(value: Any, node: Any, name: str) -> Any:
    """An argument as an array, of the shape and dtype that the program was derived for."""
    array = np.asarray(raw(value))
    if array.shape != node.shape or array.dtype != node.dtype:
        remedy = "convert it, or derive again with such an example"
        raise ValueError(f"{name} is {_form(array)}, and the program was derived for {_form(node)}: {remedy}")
    return array


def derive_bptt(
    cell: CellLike, loss: Loss | None = None, example: Sequence[Any] = (), rewrites: Collection[str] = REWRITES
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
        Which of `REWRITES` to apply; ``()`` gives the plain program.

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
    unknown = sorted(set(rewrites).difference(REWRITES))
    if unknown:
        raise ValueError(f"no rewrite is called {', '.join(unknown)}: there are {', '.join(REWRITES)}")
    if len(example) < 2:
        raise ValueError("example is (inputs, state): arrays of the shapes and dtypes that the program is for")
    taken = sorted({"inputs", "state"} & cell.parameters().keys())
    if taken:
        raise ValueError(f"a parameter is called {taken[0]!r}, as is a gradient of another kind: rename it")
    inputs, state, *extras = example
    form = form_of(state)
    x, states = np.asarray(raw(inputs)), [np.asarray(raw(s)) for s in arrays_of(state)]
    if x.ndim < 1 or not len(x):
        raise ValueError(f"inputs of shape {x.shape}: a sequence has shape (T, B, I) or (T, I), with at least one step")
    needs = isinstance(inputs, Tensor) and inputs.requires_grad
    step, trace = trace_step(cell, cell.parameters(), x, state_of(states, form), needs)
    with no_grad():
        outputs, last = unroll(_twin(cell), Tensor(x), state_of([Tensor(s) for s in states], form))
    free, by_steps = True, False
    if loss is None:
        leave_out(step, raw(outputs))
    else:
        finals = [raw(s) for s in arrays_of(last)]
        nodes, free, by_steps = trace_loss(step, loss, raw(outputs), finals, [np.asarray(raw(e)) for e in extras])
        step.traced += nodes
    derive_step(step, trace)
    simplify(step)
    for name, rewrite in STEP_REWRITES.items():
        if name in rewrites:
            if "share" in rewrites:  # again and again: a rewrite may make what there is
                share(step)
            rewrite(step)
    chosen = [name for name in REWRITES if name in rewrites]
    program = Program(Source(step, chosen, f"Backpropagation through time of {title(cell)}."), step, None, title(cell))
    program._steps = None if free else len(x)
    if free and len(x) > MOST_CHECKED:
        extras = resized(list(map(raw, extras)), len(x), MOST_CHECKED) if by_steps else extras
        x = x[:MOST_CHECKED]
    _compare(program, cell, loss, (x, states, extras))
    return program


def _twin(cell: CellLike) -> CellLike:
    """A copy with the same parameters, so that a cell which keeps something is left as it was."""
    return copy.deepcopy(cell, {id(p): p for p in cell.parameters().values()})


def _compare(program: Program, cell: CellLike, loss: Loss | None, example: Any) -> None:
    """Refuse a program that does not do on the example what the engine does."""
    x, states, extras = example
    form, needs = program._step.form, program._step.x.needs
    got, got_gradients = program(
        x, states, cell.parameters(), *([] if loss is None else extras), loss=_any_loss if loss is None else None
    )
    found = {"the loss": np.asarray(got)} | {k: g for k, g in got_gradients.items() if k != "state"}
    found |= {f"state {i}": g for i, g in enumerate(arrays_of(got_gradients["state"]))}

    def by_engine(states: Any) -> dict[str, Any]:
        with recorded():
            inputs, first = Tensor(x, requires_grad=needs), [Tensor(s, requires_grad=True) for s in states]
            outputs, last = unroll(_twin(cell), inputs, state_of(first, form))
            value = call(loss or _any_loss, {"outputs": outputs, "state": last}, extras)
        known = cell.parameters() | {"inputs": inputs} | {f"state {i}": s for i, s in enumerate(first)}
        wanted = [name for name in found if name != "the loss"]
        gradients = grad(value, [known[name] for name in wanted], allow_unused=True)
        return {"the loss": value.data} | {name: g.data for name, g in zip(wanted, gradients, strict=True)}

    expected = by_engine(states)
    # Of the largest of all: a gradient that is zero but for rounding agrees with any other rounding.
    largest = [np.abs(b[np.isfinite(b)]).max(initial=0.0) for b in expected.values()]
    scale = max(largest) + np.finfo(expected["the loss"].dtype).tiny
    wrong = [name for name, b in expected.items() if not _close(found[name], b, scale)]
    if wrong:  # or chaotic: then the engine itself answers otherwise to a state that differs by one rounding
        other = by_engine([s + np.finfo(s.dtype).eps for s in states])
        wrong = [name for name in wrong if not _close(found[name], expected[name], scale, expected[name] - other[name])]
    if wrong:
        raise GradientError(
            f"the program derived of {title(cell)} does not agree with the engine on {', '.join(wrong)}, so "
            "it is not given out: please report the cell"
        )


def _any_loss(outputs: Any, state: Any) -> Any:
    return sum(outputs) + sum(arrays_of(state)[-1])


def _close(got: Any, want: Any, scale: float, one_rounding: Any = 0.0) -> bool:
    """Equal up to rounding, or up to a hundred times what `one_rounding` changes, and not finite in the same places."""
    with np.errstate(invalid="ignore", over="ignore"):
        slack = 100 * np.abs(one_rounding)[np.isfinite(one_rounding)].max(initial=0.0)
        close = np.isclose(got, want, rtol=0, atol=TOLERANCE[want.dtype.name] * scale + slack, equal_nan=True)
    return got.shape == want.shape and bool(close.all())

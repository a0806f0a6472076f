"""Graphs that grow, are reused, freed and differentiated in any order, against an engine too simple to be wrong.

The naive engine below sums over paths: it sends a cotangent from the output along every single path to the leaves, in
no particular order, remembers nothing on the way, and shares nothing with the real one. Its numbers are dual numbers,
so that the same paths give second derivatives too.
"""

from __future__ import annotations

import gc
import threading
import weakref
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

import tinygrad_rnn as tg
from tinygrad_rnn.scope import CONTEXT

MOST_PATHS = 200
PICKS = st.integers(0, 9)
SELDOM = st.sampled_from([False, False, False, False, True])
LARGEST = 50.0

# Dual numbers: a value, and its derivative in the direction in which the leaves move.


@dataclass(frozen=True)
class Dual:
    v: np.ndarray
    d: np.ndarray

    def __add__(self, other: Dual) -> Dual:
        return Dual(self.v + other.v, self.d + other.d)

    def __sub__(self, other: Dual) -> Dual:
        return Dual(self.v - other.v, self.d - other.d)

    def __mul__(self, other: Dual) -> Dual:
        return Dual(self.v * other.v, self.d * other.v + self.v * other.d)

    def map(self, f: Any) -> Dual:
        """A linear function of the elements."""
        return Dual(np.asarray(f(self.v)), np.asarray(f(self.d)))


def sin(x: Dual) -> Dual:
    return Dual(np.sin(x.v), np.cos(x.v) * x.d)


def cos(x: Dual) -> Dual:
    return Dual(np.cos(x.v), -np.sin(x.v) * x.d)


def fixed(value: Any) -> Dual:
    return Dual(np.asarray(value, float), np.zeros(np.shape(value)))


def to_scalar_if(scalar: bool) -> Any:
    """What came to a number that was repeated along a vector."""
    return lambda g: g.map(np.sum) if scalar and g.v.ndim else g


def picked(n: int, index: Any) -> Any:
    """Cotangent of x[index] -> cotangent of x, by a matrix that says which element went where."""
    matrix = np.eye(n)[index]
    return lambda g: g.map(lambda a: np.tensordot(a, matrix, a.ndim))


@dataclass(eq=False)
class Naive:
    """A number or a vector, and for each operand the function that takes a cotangent back to it."""

    dual: Dual
    back: list[tuple[Naive, Any]] = field(default_factory=list)
    operands: list[Naive] = field(default_factory=list)  # constants included: the real graph holds on to them
    needs: bool = False
    leaf: bool = False
    freed: bool = False
    version: int = 0
    seen_versions: list[int] = field(default_factory=list)
    grad: np.ndarray | None = None
    paths: int = 1

    def send(self, g: Dual, arrived: dict[Naive, Dual]) -> None:
        """Along every path, one after the other."""
        if self.leaf:
            arrived[self] = arrived[self] + g if self in arrived else g
        for operand, back in self.back:
            operand.send(back(g), arrived)

    def below(self) -> set[Naive]:
        """Everything with a gradient that this was computed from."""
        found = {self} if self.needs else set()
        return found.union(*(operand.below() for operand, _ in self.back))


def combined(dual: Dual, operands: list[Naive], backs: list[Any], recording: bool) -> Naive:
    if not recording or not any(x.needs for x in operands):
        return Naive(fixed(dual.v))  # a constant, which stays where it is when the leaves move
    pairs = [(x, back) for x, back in zip(operands, backs, strict=True) if x.needs]
    paths = sum(x.paths for x, _ in pairs)
    return Naive(dual, pairs, list(operands), True, paths=paths, seen_versions=[x.version for x in operands])


def shrink_both(a: Naive, b: Naive) -> tuple[Any, Any]:
    return to_scalar_if(not a.dual.v.ndim), to_scalar_if(not b.dual.v.ndim)


def add(a: Naive, b: Naive) -> tuple[Dual, list[Naive], list[Any]]:
    return a.dual + b.dual, [a, b], list(shrink_both(a, b))


def subtract(a: Naive, b: Naive) -> tuple[Dual, list[Naive], list[Any]]:
    to_a, to_b = shrink_both(a, b)
    return a.dual - b.dual, [a, b], [to_a, lambda g: to_b(g.map(np.negative))]


def multiply(a: Naive, b: Naive) -> tuple[Dual, list[Naive], list[Any]]:
    (to_a, to_b), x, y = shrink_both(a, b), a.dual, b.dual
    return x * y, [a, b], [lambda g: to_a(g * y), lambda g: to_b(g * x)]


BINARY = {"add": add, "subtract": subtract, "multiply": multiply}
INDICES = [0, -1, [0, 0], [1, 0], slice(None, None, -1)]


@dataclass(eq=False)
class Held:
    """A tensor that the program still holds, and what it should be."""

    tensor: tg.Tensor
    naive: Naive


class Graphs(RuleBasedStateMachine):
    """A program that may do anything with its tensors, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.held: list[Held] = []
        self.dropped: list[tuple[Any, Naive]] = []
        self.directions = np.random.default_rng(0)

    # What the program holds

    @initialize(scalar=st.integers(-8, 8), vector=st.tuples(st.integers(-8, 8), st.integers(-8, 8)))
    def start(self, scalar: int, vector: tuple[int, int]) -> None:
        self.leaf(scalar / 4, True)
        self.leaf(np.array(vector) / 4, True)

    def leaf(self, value: Any, needs: bool) -> None:
        dual = Dual(np.asarray(value, float), self.directions.normal(size=np.shape(value)) * needs)
        self.held.append(Held(tg.Tensor(value, requires_grad=needs), Naive(dual, needs=needs, leaf=needs)))

    def pick(self, k: int, among: Any = lambda x: True) -> Held:
        """The k-th from the end: what is new is used most, so that graphs grow deep."""
        fitting = [x for x in self.held if among(x)] or self.held
        return fitting[-1 - k % len(fitting)]

    def keep(self, tensor: tg.Tensor, parts: Any, recording: bool = True) -> None:
        naive = combined(*parts, recording)
        if naive.paths <= MOST_PATHS and np.abs(naive.dual.v).max() <= LARGEST:
            self.held.append(Held(tensor, naive))

    @rule(value=st.integers(-8, 8), vector=st.booleans(), needs=st.booleans())
    @precondition(lambda self: len(self.held) < 12)
    def create(self, value: int, vector: bool, needs: bool) -> None:
        self.leaf(np.array([value / 4, 0.5]) if vector else value / 4, needs)

    @rule(name=st.sampled_from(sorted(BINARY)), i=PICKS, j=PICKS)
    def combine(self, name: str, i: int, j: int) -> None:
        a, b = self.pick(i), self.pick(j)
        self.keep(getattr(tg, name)(a.tensor, b.tensor), BINARY[name](a.naive, b.naive))

    @rule(i=PICKS, number=st.sampled_from([2.0, -0.5]), left=st.booleans())
    def combine_with_a_number(self, i: int, number: float, left: bool) -> None:
        a, constant = self.pick(i), Naive(fixed(number))
        if left:
            self.keep(number * a.tensor, multiply(constant, a.naive))
        else:
            self.keep(a.tensor - number, subtract(a.naive, constant))

    @rule(i=PICKS)
    def curve(self, i: int) -> None:
        x = self.pick(i)
        slope = cos(x.naive.dual)
        self.keep(tg.sin(x.tensor), (sin(x.naive.dual), [x.naive], [lambda g: g * slope]))

    @rule(i=PICKS, index=st.sampled_from(INDICES))
    def take(self, i: int, index: Any) -> None:
        x = self.pick(i, lambda x: x.tensor.ndim)
        if x.tensor.ndim:
            self.keep(x.tensor[index], (x.naive.dual.map(lambda a: a[index]), [x.naive], [picked(2, index)]))

    @rule(i=PICKS)
    def total(self, i: int) -> None:
        x = self.pick(i, lambda x: x.tensor.ndim)
        if x.tensor.ndim:
            self.keep(tg.sum(x.tensor), (x.naive.dual.map(np.sum), [x.naive], [picked_all]))

    @rule(i=PICKS, j=PICKS)
    def join(self, i: int, j: int) -> None:
        a, b = (self.pick(k, lambda x: not x.tensor.ndim) for k in (i, j))
        if a.tensor.ndim == b.tensor.ndim == 0:
            x, y = a.naive.dual, b.naive.dual
            dual = Dual(np.stack([x.v, y.v]), np.stack([x.d, y.d]))
            backs = [lambda g: g.map(lambda u: u[0]), lambda g: g.map(lambda u: u[1])]
            self.keep(tg.stack([a.tensor, b.tensor]), (dual, [a.naive, b.naive], backs))

    @rule(i=PICKS, j=PICKS, name=st.sampled_from(["t=1", "gate/i"]))
    def combine_without_recording(self, i: int, j: int, name: str) -> None:
        a, b = self.pick(i), self.pick(j)
        with tg.scope(name), tg.no_grad():
            y = a.tensor * b.tensor
        assert not y.requires_grad and y.is_leaf and y.scope == name
        self.keep(y, multiply(a.naive, b.naive), recording=False)

    @rule(i=PICKS)
    def detach(self, i: int) -> None:
        x = self.pick(i)
        self.held.append(Held(x.tensor.detach(), Naive(fixed(x.naive.dual.v))))

    @rule(i=PICKS)
    @precondition(lambda self: any(not x.naive.leaf for x in self.held))
    def drop(self, i: int) -> None:
        gone = self.pick(i, lambda x: not x.naive.leaf)  # the second derivative asks for the part of every leaf
        self.held.remove(gone)
        self.dropped.append((weakref.ref(gone.tensor), gone.naive))

    # What is done with it

    @rule(i=PICKS, value=st.integers(-8, 8), seldom=SELDOM)
    def rebind(self, i: int, value: int, seldom: bool) -> None:
        x = self.pick(i)
        if x.tensor.is_leaf and not seldom:
            return
        if x.tensor.is_leaf:
            x.tensor.data = np.full(x.tensor.shape, value / 4)
            x.naive.dual = Dual(np.full(x.tensor.shape, value / 4), x.naive.dual.d)
            x.naive.version += 1
        else:
            with pytest.raises(tg.GradientError, match="only a leaf"):
                x.tensor.data = np.zeros(x.tensor.shape)

    @rule(i=PICKS)
    def zero_grad(self, i: int) -> None:
        x = self.pick(i)
        if x.naive.leaf:
            x.tensor.grad = x.naive.grad = None

    @rule(i=PICKS, seed=st.integers(-4, 4), free=SELDOM)
    def backward(self, i: int, seed: int, free: bool) -> None:
        y, retain = self.pick(i, lambda x: x.naive.needs), not free
        cotangent = np.full(y.tensor.shape, seed / 2) + np.arange(y.tensor.size).reshape(y.tensor.shape)
        below = y.naive.below()
        if not y.naive.needs or any(x.freed for x in below):
            with pytest.raises(tg.GradientError, match="freed" if y.naive.needs else "nothing differentiable"):
                y.tensor.backward(cotangent, retain_graph=retain)
            return
        y.tensor.backward(cotangent, retain_graph=retain)
        arrived: dict[Naive, Dual] = {}
        y.naive.send(fixed(cotangent), arrived)
        for leaf, g in arrived.items():
            leaf.grad = g.v if leaf.grad is None else leaf.grad + g.v
        if not retain:
            for x in below:
                if not x.leaf:
                    x.freed, x.back, x.operands = True, [], []

    @rule(i=PICKS)
    def differentiate_twice(self, i: int) -> None:
        """Gradient, and the derivative of its product with the leaves' directions: Σ over paths of dual numbers."""
        y = self.pick(i, lambda x: x.naive.needs and not x.naive.leaf)
        leaves = [x for x in self.held if x.naive.leaf]
        below = y.naive.below()
        if not y.naive.needs or any(x.freed for x in below) or not leaves:
            return
        arrived: dict[Naive, Dual] = {}
        y.naive.send(fixed(np.ones(y.tensor.shape)), arrived)
        if not any(x.naive in arrived for x in leaves):
            return
        tensors, seed = [x.tensor for x in leaves], np.ones(y.tensor.shape)
        stale = [x for x in below if any(o.version != v for o, v in zip(x.operands, x.seen_versions, strict=True))]
        if stale:
            with pytest.raises(tg.GradientError, match="rebound"):
                tg.grad(y.tensor, tensors, seed, create_graph=True, allow_unused=True)
            return self.plain_gradient(y, leaves, arrived)
        first = tg.grad(y.tensor, tensors, seed, create_graph=True, allow_unused=True)
        for g, x in zip(first, leaves, strict=True):
            self.close(g.numpy(), arrived[x.naive].v if x.naive in arrived else np.zeros(x.tensor.shape))
        product = sum((tg.sum(g * x.naive.dual.d) for g, x in zip(first, leaves, strict=True)), tg.Tensor(0.0))
        if product.requires_grad:
            second = tg.grad(product, tensors, allow_unused=True)
        else:
            second = [tg.Tensor(np.zeros(x.tensor.shape)) for x in leaves]
        for g, x in zip(second, leaves, strict=True):
            self.close(g.numpy(), arrived[x.naive].d if x.naive in arrived else np.zeros(x.tensor.shape))

    def plain_gradient(self, y: Held, leaves: list[Held], arrived: dict[Naive, Dual]) -> None:
        """After a rebinding only first derivatives are possible, and they are those of the old values."""
        tensors, seed = [x.tensor for x in leaves], np.ones(y.tensor.shape)
        for g, x in zip(tg.grad(y.tensor, tensors, seed, allow_unused=True), leaves, strict=True):
            self.close(g.numpy(), arrived[x.naive].v if x.naive in arrived else np.zeros(x.tensor.shape))

    @rule(i=PICKS, thread=st.booleans())
    def fail(self, i: int, thread: bool) -> None:
        """An error in the middle of scopes, here or in a thread, leaves nothing behind."""
        x, errors = self.pick(i).tensor, []

        def attempt() -> None:
            try:
                with tg.scope("t=9"), tg.no_grad(), tg.scope("inner"):
                    tg.matmul(np.ones((2, 3)), x + np.ones((2, 2)))
            except ValueError as error:
                errors.append(error)

        if thread:
            runner = threading.Thread(target=attempt)
            runner.start()
            runner.join()
        else:
            attempt()
        assert "at t=9/inner" in errors[0].__notes__[-1]
        errors.clear()

    # What always holds

    @staticmethod
    def close(actual: Any, expected: Any) -> None:
        np.testing.assert_allclose(actual, expected, 1e-9, 1e-9 * (1 + np.abs(expected).max(initial=0)))

    @invariant()
    def values_and_gradients_are_right(self) -> None:
        for x in self.held:
            self.close(x.tensor.numpy(), x.naive.dual.v)
            assert x.tensor.requires_grad == x.naive.needs
            if x.naive.leaf:
                assert (x.tensor.grad is None) == (x.naive.grad is None)
                if x.naive.grad is not None:
                    self.close(x.tensor.grad.numpy(), x.naive.grad)

    @invariant()
    def nothing_is_left_behind(self) -> None:
        assert CONTEXT.get()[:2] == ("", True)

    @invariant()
    def only_what_can_be_reached_lives(self) -> None:
        reachable, waiting = set(), [x.naive for x in self.held]
        while waiting:
            x = waiting.pop()
            if x not in reachable:
                reachable.add(x)
                waiting.extend(x.operands)
        for reference, naive in self.dropped:
            assert (reference() is not None) == (naive in reachable)


def picked_all(g: Dual) -> Dual:
    """Cotangent of the sum of a vector -> cotangent of the vector."""
    return g.map(lambda a: np.full(2, a))


def test_any_order_of_operations_agrees_with_the_sum_over_paths():
    profile = settings(max_examples=max(3, settings().max_examples // 2))
    gc.disable()  # what is dropped must go by itself
    try:
        run_state_machine_as_test(Graphs, settings=settings(profile, stateful_step_count=40))
    finally:
        gc.enable()


def test_the_naive_engine_knows_a_closed_form():
    x = Naive(Dual(np.array(3.0), np.array(1.0)), needs=True, leaf=True)
    y = combined(*multiply(x, x), True)
    z = combined(*multiply(y, x), True)
    arrived: dict[Naive, Dual] = {}
    z.send(fixed(1.0), arrived)
    assert (z.paths, arrived[x].v, arrived[x].d) == (3, 27.0, 18.0)

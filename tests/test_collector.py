"""While a graph is built, Python's cyclic collector looks at young objects only, and is then what it was before."""

import gc
import threading
import weakref
from functools import partial

import numpy as np
import pytest

import tinygrad_rnn as tg


@pytest.fixture
def collections():
    """A collector that is called all the time, and the generations that it has looked at."""
    before, seen = gc.get_threshold(), []
    note = lambda phase, about: seen.append(about["generation"]) if phase == "start" else None  # noqa: E731
    gc.collect()
    gc.callbacks.append(note)
    gc.set_threshold(20, 2, 3)
    try:
        yield seen
    finally:
        gc.callbacks.remove(note)
        gc.set_threshold(*before)


NETWORKS = {"cell": lambda: partial(tg.unroll, tg.LSTMCell(2, 3, rng=0)), "stack": lambda: tg.LSTM(2, 3, rng=0)}


@pytest.mark.parametrize("make", NETWORKS.values(), ids=NETWORKS)
def test_a_graph_that_grows_is_not_walked_again_and_again(make, collections):
    network = make()
    collections.clear()
    assert len(network(np.ones((200, 1, 2)))[0]) == 200
    assert 0 in collections and 1 in collections, "what is young is collected"
    assert 2 not in collections
    assert gc.get_threshold() == (20, 2, 3)


def test_a_cycle_that_a_cell_drops_is_found_while_it_is_young(collections):
    alive, most = weakref.WeakSet(), []

    class Loop:
        def __init__(self):
            self.me = self
            alive.add(self)

    def cell(x, h):
        Loop()
        most.append(len(alive))
        return tg.tanh(x + h)

    cell.parameters, cell.initial_state = dict, lambda batch: tg.Tensor(np.zeros((1, 2)))
    tg.unroll(cell, np.ones((300, 1, 2)))
    assert max(most) < 100


def test_whoever_is_last_gives_the_collector_back_what_it_was(collections):
    inside, gate = [], threading.Barrier(2)

    def cell(x, h):
        gate.wait()  # until both are at it
        inside.append(gc.get_threshold())
        raise KeyError

    cell.parameters, cell.initial_state = dict, lambda batch: None

    def run():
        with pytest.raises(KeyError):
            tg.unroll(cell, np.ones((3, 1, 2)))

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [third > 2 for *_, third in inside] == [True, True] and gc.get_threshold() == (20, 2, 3)


def test_what_somebody_else_asks_of_the_collector_stays(collections):
    def cell(x, h):
        gc.set_threshold(30, 3, 3)
        return x

    cell.parameters, cell.initial_state = dict, lambda batch: None
    tg.unroll(cell, np.ones((3, 1, 2)))
    assert gc.get_threshold() == (30, 3, 3)


def test_what_an_inner_call_ends_is_not_ended_for_the_outer_one(collections):
    inside = []

    def leaf(x, h):
        inside.append(gc.get_threshold())
        return x

    def outer(x, h):
        tg.unroll(leaf, inputs=np.ones((1, 1, 2)))
        inside.append(gc.get_threshold())
        return x

    for cell in (leaf, outer):
        cell.parameters, cell.initial_state = dict, lambda batch: None
    for _ in range(2):
        tg.unroll(outer, np.ones((3, 1, 2)))
        assert gc.get_threshold() == (20, 2, 3)
    first, second, third = zip(*inside, strict=True)
    assert set(first) == {20} and set(second) == {2}, "the young are collected as often as before"
    assert min(third) > 1_000_000

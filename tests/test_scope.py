"""Where a tensor is made and whether it is recorded: each `with` undoes its own entry, and only that."""

import asyncio
import contextvars
import inspect
import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinygrad_rnn as tg


def leaf(*shape):
    return tg.Tensor(np.ones(shape), requires_grad=True)


def in_a_thread(run):
    errors = []

    def guarded():
        try:
            run()
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=guarded)
    thread.start()
    thread.join()
    assert not errors, errors


ENTERED = {"a": tg.scope("a"), "b": tg.scope("b"), "off": tg.no_grad(), "off too": tg.no_grad()}


@given(st.lists(st.tuples(st.sampled_from(list(ENTERED)), st.booleans())))
def test_each_with_undoes_its_own_entry_in_whatever_order_they_end(actions):
    """As generators make them end: after every entry and exit, the path and the recording are those of what is open."""
    opened = []

    def found():
        made = tg.Tensor(1.0, requires_grad=True) * 2.0
        return made.scope, made.requires_grad

    def run():
        for name, entering in actions:
            if entering:
                ENTERED[name].__enter__()
                opened.append(name)
            elif name in opened:
                ENTERED[name].__exit__(None, None, None)
                del opened[len(opened) - 1 - opened[::-1].index(name)]
            path = "/".join(name for name in opened if len(name) == 1)
            assert found() == (path, not any(name.startswith("off") for name in opened))

    contextvars.copy_context().run(run)
    assert found() == ("", True)


def test_a_generator_that_waits_inside_keeps_nothing_of_its_callers():
    w = leaf(2)

    def waiting(inside):
        with inside:
            yield (w * w).requires_grad
            yield (w * w).scope

    with tg.no_grad(), tg.scope("caller"):
        first = waiting(tg.scope("first"))
        assert next(first) is False
    assert (w * w).requires_grad and (w * w).scope == "first", "it is still open, as in any Python library"
    with tg.scope("caller"):
        second = waiting(tg.no_grad())
        assert next(second) is False
        assert not (w * w).requires_grad
        first.close()
        assert (w * w).scope == next(second) == "caller"
        with pytest.raises(KeyError):
            second.throw(KeyError)
        assert (w * w).requires_grad
    assert (w * w).scope == ""


def test_a_decorated_generator_runs_inside_and_its_caller_does_not():
    w, seen = leaf(2), []

    def look():
        made = w * w
        return made.scope, made.requires_grad

    @tg.scope("load")
    @tg.no_grad()
    def batches(count):
        """Documented."""
        try:
            for k in range(count):
                seen.append(((yield k, look()), look()))
        except ValueError:
            yield "caught", look()
        finally:
            seen.append(look())
        return "all"

    def whole():
        assert (yield from batches(2)) == "all"

    inside, outside = ("load", False), ("", True)
    assert batches.__doc__ == "Documented." and inspect.isgeneratorfunction(batches)
    assert list(whole()) == [(0, inside), (1, inside)] and seen == [(None, inside), (None, inside), inside]
    seen.clear()
    one = batches(3)
    assert next(one) == (0, inside) and look() == outside
    assert one.send("sent") == (1, inside) and look() == outside
    assert one.throw(ValueError) == ("caught", inside) and look() == outside
    one.close()
    assert seen == [("sent", inside), inside] and look() == outside
    with pytest.raises(KeyError):
        next(iter([batches(1)])).throw(KeyError)  # before it has begun
    for _ in batches(3):  # abandoned
        break
    assert seen[-1] == inside and look() == outside


def test_a_decorated_coroutine_runs_inside_and_others_do_not():
    w, seen = leaf(2), []

    @tg.no_grad()
    async def unrecorded(value):
        for _ in range(3):
            seen.append((w * w).requires_grad)
            await asyncio.sleep(0)
        return value

    async def recorded():
        for _ in range(5):
            assert (w * w).requires_grad
            await asyncio.sleep(0)

    async def main():
        assert inspect.iscoroutinefunction(unrecorded)
        assert await asyncio.gather(unrecorded(1), recorded(), unrecorded(2)) == [1, None, 2]

    asyncio.run(main())
    assert seen == [False] * 6
    by_hand = unrecorded(3)  # driven in the context of its caller
    assert by_hand.send(None) is None and (w * w).requires_grad
    by_hand.close()
    with pytest.raises(TypeError, match="asynchronous generator"):

        @tg.no_grad()
        async def refused():
            yield


def test_decorated_functions_are_given_all_their_arguments():
    @tg.scope("f")
    def plain(a, *more, b=1, **options):
        return a, more, b, options, leaf(1).scope

    @tg.scope("f")
    def generator(*args, **options):
        yield plain(*args, **options)

    @tg.scope("f")
    async def coroutine(*args, **options):
        return plain(*args, **options)

    want = (1, (2,), 3, {"c": 4}, "f")
    assert plain(1, 2, b=3, c=4) == want and leaf(1).scope == ""
    assert next(generator(1, 2, b=3, c=4)) == asyncio.run(coroutine(1, 2, b=3, c=4)) == (*want[:4], "f/f")


def test_what_another_thread_leaves_is_not_what_it_opened():
    w = leaf(2)

    def waiting():
        with tg.no_grad():
            yield

    def work(generator):
        with tg.scope("thread"):
            with pytest.warns(UserWarning, match="a no_grad is left in another thread"):
                generator.close()
            assert (w * w).requires_grad and (w * w).scope == "thread"

    def here():
        generator = waiting()
        next(generator)
        in_a_thread(lambda: work(generator))

    contextvars.copy_context().run(here)
    assert (w * w).requires_grad


def test_one_scope_may_be_shared_by_threads_and_entered_again():
    shared, quiet, gate = tg.scope("shared"), tg.no_grad(), threading.Barrier(3)
    w = leaf(2)

    def work(k):
        for turn in range(20):
            with tg.scope(f"{k}"), shared:
                gate.wait()  # all are inside
                with quiet if (turn + k) % 2 else shared, shared:
                    made = w * w
                    gate.wait()
                    path = f"{k}/shared" + "/shared" * (1 if (turn + k) % 2 else 2)
                    assert (made.scope, made.requires_grad) == (path, (turn + k) % 2 == 0)
            gate.wait()  # some have left, by now all
            assert (w * w).scope == "" and (w * w).requires_grad

    threads = [threading.Thread(target=lambda k=k: seen.append(work(k))) for k in range(3)]
    seen = []
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == [None] * 3, "none has failed"


def test_an_object_whose_call_is_a_generator_or_a_coroutine_is_decorated_as_a_function_is():
    w = leaf(2)

    class Steps:
        def __call__(self):
            yield (w * w).requires_grad

    class Waits:
        async def __call__(self):
            return (w * w).requires_grad

    class Endless:
        async def __call__(self):
            yield

    inside = tg.no_grad()
    assert list(inside(Steps())()) == [False]
    assert asyncio.run(inside(Waits())()) is False
    with pytest.raises(TypeError, match="asynchronous generator"):
        inside(Endless())
    assert isinstance(inside(Steps)(), Steps)  # to make an object is no generator


@pytest.mark.parametrize("name", [None, 3, b"a", "", ("a",), tg.no_grad()])
def test_a_scope_has_a_text_as_its_name(name):
    """None used to be the step "None" in every picture and message."""
    with pytest.raises(TypeError, match=r"name=.*a scope has a text as its name"):
        tg.scope(name)

"""What is found once for each object, and forgotten with it.

After this file the reader knows why a picture may ask for the same thing as often as it likes: a graph does not change,
nor does what flows along its edges once it has been asked.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar
from weakref import WeakKeyDictionary

T = TypeVar("T")
R = TypeVar("R")
More = ParamSpec("More")


def remembered(find: Callable[Concatenate[T, More], R]) -> Callable[Concatenate[T, More], R]:
    """The same function, whose answers are kept as long as its first argument lives: one for each of what follows."""
    known: WeakKeyDictionary[Any, dict[Any, R]] = WeakKeyDictionary()

    @wraps(find)
    def found(thing: T, /, *more: More.args, **options: More.kwargs) -> R:
        answers = known.setdefault(thing, {})
        if (key := (more, *options.items())) not in answers:
            answers[key] = find(thing, *more, **options)
        return answers[key]

    return found

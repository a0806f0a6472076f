"""The keys of the JSON that the package writes, read off a real object and the docstrings of the classes behind it.

After this file the reader knows why the page of keys cannot be out of date: no key and no meaning is typed there.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Mapping
from typing import Any

NAMES = {str: "text", bool: "true or false", int: "number", float: "number", type(None): "null", dict: "object"}
SECTION = re.compile(r"^(?:Attributes|Parameters)\n-+\n(.*?)(?=\n\n\w[\w ]*\n-+\n|\Z)", re.DOTALL | re.MULTILINE)
ENTRY = re.compile(r"^(\w[\w, ]*?)(?: : .*)?\n((?:    .*(?:\n|\Z)|\n(?=    ))*)", re.MULTILINE)


def meanings(kind: type) -> dict[str, str]:
    """What the attributes of a class mean, by name: from the section Attributes of its docstring."""
    found: dict[str, str] = {}
    for section in SECTION.findall(inspect.getdoc(kind) or ""):
        for names, text in ENTRY.findall(section):
            found |= {name: " ".join(text.replace("``", "`").split()) for name in names.split(", ")}
    return found


def keys(value: Any, classes: Mapping[str, type], path: str = "") -> Iterator[str]:
    """One line a key, in order; of a list of objects the keys that any of them has, of a list of numbers none.

    Parameters
    ----------
    value : JSON-ready data
    classes : mapping of str to type
        By the path of an object, such as "nodes" or "verdict.trials": the class whose attributes it tells.
    path : str
        Where the value stands.
    """
    known = meanings(classes[path]) if path in classes else {}
    if isinstance(value, list):
        merged: dict[str, Any] = {}
        for item in value:
            if isinstance(item, dict):
                merged |= {key: part for key, part in item.items() if merged.get(key) is None}
        value = merged
    if isinstance(value, dict):
        for key, part in value.items():
            here = f"{path}.{key}".strip(".")
            text = f": {known[key]}" if known.get(key) else ""
            yield f"{'  ' * here.count('.')}{key} ({NAMES.get(type(part), 'list')}){text}"
            yield from keys(part, classes, here)

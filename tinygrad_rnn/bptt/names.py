"""Names for what the cell gave none: after what it is made of, or after what is made of it.

After this file the reader knows where names such as `slope_f`, `one_minus_z` and `U_T` in a derived program come from.
"""

from __future__ import annotations

from itertools import takewhile

from ..symbolic.trace import QUESTIONS, Node, Part
from ..symbolic.values import identifier
from .plan import Plan
from .step import topological

LONGEST = 16
NOUNS = {
    **{"add": "total", "sum": "total", "subtract": "difference", "multiply": "product", "matmul": "product"},
    **{"divide": "ratio", "where": "chosen", "getitem": "part"},
}
SIGNS = {"add": "plus", "subtract": "minus", "multiply": "times", "divide": "over"}


def hint(plan: Plan, node: Node) -> str:
    """A name that says what a value is; `Draft.fresh` makes it unique."""
    if node.name:
        return node.name
    names = [name for a in node.args if (name := _word(plan, a))]
    reader = _named_reader(plan, node)
    if node.op == "transpose" and names:
        return f"{names[0]}_T"
    if node.op == "getitem" and node.origins and node.origins[0].op == "matmul":  # a part of a product of several
        return _described(plan, node.origins[0])
    if node.op == "multiply" and names[-1:] == ["scale"]:
        return f"{hint(plan, node.args[0]).removesuffix('_T')}_scaled"
    if node.op == "getitem" and names and [*map(type, node.static["index"])] == [int]:
        return f"{names[0]}_{node.static['index'][0]}".replace("-", "last_")
    if node.op == "getitem" and names:
        name = f"{names[0]}_{reader.removeprefix('z_')}"
        return name if reader and name != reader else f"{names[0]}_part"
    if node.op == "add" and len(names) == 2 and names[0].partition("_")[0] == names[1].partition("_")[0]:
        return names[0].partition("_")[0]
    if node.op == "concatenate":
        names = [(a if a.name or not a.args else a.args[0]).name for a in node.args]
        alike = takewhile(lambda letters: len(set(letters)) == 1, zip(*names, strict=False))
        stem = "".join(letters[0] for letters in alike).strip("_")
        if plan.part[node] in (Part.BACKWARD, Part.AFTER):
            return "delta" if stem in ("", "d", *names) else stem
        return (stem or "joined") + _multiplied(plan, node)
    if node.op == "total" and reader:
        return f"{reader}_part"
    part = plan.part[node]
    if part is Part.BETWEEN and node.stepped and reader.startswith("d"):
        if any(n.op == "at_t" for n in topological([node])):
            return f"{reader}_part"  # what the loss sends
        of = reader.removeprefix("d").removeprefix("_").removeprefix("z").removeprefix("_")
        return ("mask" if node.dtype == bool else "slope") + (of and f"_{of}")
    if part is Part.BEFORE and reader:
        return f"{reader}_x"
    return "delta" if part in (Part.BACKWARD, Part.AFTER) else _described(plan, node)


def _described(plan: Plan, node: Node) -> str:
    """A value in words, such as one_minus_z or tanh_h, or what kind of value it is if these are too many."""
    op = identifier(node.op, "own")
    if op in QUESTIONS.values():
        return "mask"
    words = [_word(plan, a) for a in node.args]
    if all(words) and op in ("multiply", "matmul") and len("".join(words)) < 5 + (op == "matmul"):
        text = "".join(words)
    elif all(words) and len(words) == 2 and op in SIGNS:
        text = f"{words[0]}_{SIGNS[op]}_{words[1]}"
    elif all(words) and len(words) == 1:
        text = {"square": f"{words[0]}_squared", "negative": f"minus_{words[0]}"}.get(op, f"{op}_{words[0]}")
    else:
        text = ""
    return text if text and len(text) <= LONGEST else NOUNS.get(op, op)


def _word(plan: Plan, node: Node) -> str:
    """An operand in one word, or ""."""
    if node.op == "number":
        return {1: "one", 2: "two"}.get(node.value, "")
    if node.op == "transpose" and not _called(plan, node):
        (node,) = node.args
    return _called(plan, node) or (_described(plan, node) if node.op in ("square", "negative") else "")


def _multiplied(plan: Plan, node: Node) -> str:
    """For a weight, _x or whatever else is multiplied with it."""
    while len(plan.users[node]) == 1 and plan.users[node][0].op in ("transpose", "multiply"):
        (node,) = plan.users[node]
    (reader, *_) = [*plan.users[node], node]
    return f"_{hint(plan, reader.args[0])}" if reader.op == "matmul" and reader.args[1] is node else ""


def _called(plan: Plan, node: Node) -> str:
    place = plan.places[node].name if node in plan.places else ""
    return node.name or ("" if place.startswith("buffer") else place)


def _named_reader(plan: Plan, node: Node) -> str:
    """The name of what a nameless value goes into, by way of nameless ones."""
    first = node
    while len(plan.users[node]) == 1 and (node is first or node.op != "total"):
        (node,) = plan.users[node]
        if node.name:
            return node.name
    return ""

"""``tinygrad-rnn draw``: unroll a cell over a real series, run backpropagation through time, write the picture.

Everything that decides about its numbers is printed. Whether the files can be written is found out before any work,
and each is written whole or not at all.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .options import (
    NAMES,
    Problem,
    add_cell,
    add_data,
    build_cell,
    check_writable,
    describe_cell,
    random_direction,
    read_data,
)

if TYPE_CHECKING:
    from ..graph import GradientGraph
    from ..tensor import Tensor


def add_to(commands: Any) -> None:
    """Declare the command."""
    from ..draw.picture import FORMATS

    parser = commands.add_parser(
        "draw",
        help="unroll a cell over a series and draw the gradient along every edge",
        description="Unroll a cell over a series, run backpropagation through time, and draw the unrolled graph with "
        "the gradient that flows along every edge.",
    )
    add = parser.add_argument
    add("cell", choices=tuple(NAMES))
    add_data(parser, steps=5)
    add_cell(parser)
    add("--loss", choices=("last", "all"), default="last", help="of which steps; default: %(default)s")
    add("--out", type=Path, metavar="FILE", help=f"{', '.join(FORMATS)}; default: CELL.svg")
    add("--json", type=Path, metavar="FILE", help="also write the numbers, as JSON")
    add("--theme", choices=("light", "dark"), default="light", help="default: %(default)s")
    add("--title", help="default: what the picture shows")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    """Draw, and print what was drawn."""
    from .. import draw, gradient_graph, unroll
    from ..draw.engine import NoRenderer
    from ..draw.picture import FORMATS

    picture: Path = arguments.out or Path(f"{arguments.cell}.svg")
    if picture.suffix.lower() not in FORMATS:
        raise Problem(f"{picture}: expected a name that ends in {', '.join(FORMATS)}")
    targets = [picture, arguments.json] if arguments.json else [picture]
    if arguments.json and arguments.json.resolve() == picture.resolve():
        raise Problem(f"{picture}: cannot be both the picture and --json")
    for target in targets:
        check_writable(target)
    values, described = read_data(arguments)
    cell, initialised = build_cell(arguments, values.shape[1])
    outputs, state = unroll(cell, values[:, None, :])
    last = state[0] if isinstance(state, tuple) else state
    loss, meaning = _loss(arguments, last if arguments.loss == "last" else outputs)
    graph = gradient_graph(loss)
    name = describe_cell(arguments)
    title = arguments.title or f"{name}, over {described}"
    try:
        draw(graph, picture, title=title, subtitle=f"{meaning}; {initialised}", theme=arguments.theme)
    except (NoRenderer, ValueError) as error:
        raise Problem(str(error)) from error
    if arguments.json:
        graph.to_json(arguments.json)

    print(f"data    {described}; steps: {arguments.steps}, values a step: {values.shape[1]}")
    print(f"cell    {name}, {arguments.dtype}")
    print(f"init    {initialised}")
    print(f"loss    {meaning}: {loss.item():.6g}")
    for line in _through_time(graph):
        print(line)
    print(f"wrote   {', '.join(map(str, targets))}")


def _loss(arguments: argparse.Namespace, hidden: Tensor) -> tuple[Tensor, str]:
    v = random_direction(arguments)
    if arguments.loss == "last":
        return (hidden @ v).mean(), "L = v·h at the last step, v a random unit vector"
    return (hidden @ v).mean(), "L = mean of v·h over all steps, v a random unit vector"


def _through_time(graph: GradientGraph) -> Iterator[str]:
    from ..graph.model import norm_of

    for name in ("h", "c"):
        steps = [n for n in graph.nodes if n.name == name and n.step]
        norms = [f"{n.step}: {norm_of(n.gradient):.3g}" for n in steps if n.gradient is not None]
        if norms:
            yield f"‖∂L/∂{name}‖ {', '.join(norms[:1] + norms[1:][-1:])}"

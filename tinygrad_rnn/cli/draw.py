"""``tinygrad-rnn draw``: unroll a cell, or a network from a file, over a real series, and draw its gradients.

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
    Network,
    Problem,
    add_cell,
    add_data,
    add_weights,
    build_network,
    check_writable,
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
    add("cell", choices=tuple(NAMES), nargs="?", help="or --weights")
    add_data(parser, steps=5)
    add_cell(parser)
    add_weights(parser)
    add("--loss", choices=("last", "all"), default="last", help="of which steps; default: %(default)s")
    add("--out", type=Path, metavar="FILE", help=f"{', '.join(FORMATS)}; default: CELL.svg, or as --weights")
    add("--json", type=Path, metavar="FILE", help="also write the numbers, as JSON")
    add("--theme", choices=("light", "dark"), default="light", help="default: %(default)s")
    add("--title", help="default: what the picture shows")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    """Draw, and print what was drawn."""
    from .. import draw, gradient_graph
    from ..draw.engine import NoRenderer
    from ..draw.picture import FORMATS

    default = f"{arguments.weights.stem}.svg" if arguments.weights else f"{arguments.cell}.svg"
    picture: Path = arguments.out or Path(default)
    if picture.suffix.lower() not in FORMATS:
        raise Problem(f"{picture}: expected a name that ends in {', '.join(FORMATS)}")
    targets = [picture, arguments.json] if arguments.json else [picture]
    if arguments.json and arguments.json.resolve() == picture.resolve():
        raise Problem(f"{picture}: cannot be both the picture and --json")
    for target in targets:
        check_writable(target)
    values, described = read_data(arguments)
    network = build_network(arguments, values.shape[1])
    loss, meaning = _loss(arguments, network, *network.run(values))
    graph = gradient_graph(loss)
    title = arguments.title or f"{network.name}, over {described}"
    subtitle = f"{meaning}; {network.initialised}"
    try:
        draw(graph, picture, title=title, subtitle=subtitle, theme=arguments.theme)
    except (NoRenderer, ValueError) as error:
        raise Problem(str(error)) from error
    if arguments.json:
        graph.to_json(arguments.json)

    print(f"data    {described}; steps: {arguments.steps}, values a step: {values.shape[1]}")
    print(f"cell    {network.name}, {network.module.dtype}")
    print(f"init    {network.initialised}")
    print(f"loss    {meaning}: {loss.item():.6g}")
    for line in _through_time(graph):
        print(line)
    print(f"wrote   {', '.join(map(str, targets))}")


def _loss(arguments: argparse.Namespace, network: Network, outputs: Tensor, last: Tensor) -> tuple[Tensor, str]:
    v = random_direction(arguments, network)
    if arguments.loss == "last":
        return (last @ v).mean(), "L = v·h at the last step, v a random unit vector"
    return (outputs @ v).mean(), "L = mean of v·h over all steps, v a random unit vector"


def _through_time(graph: GradientGraph) -> Iterator[str]:
    """For each state, of each layer, the gradient at the first and the last step."""
    from ..graph.model import norm_of

    # By name, not by `graph.steps.states`: of a single step, which hands nothing on, the gradient is told as well.
    found: dict[tuple[str, str], dict[int, str]] = {}
    for node in graph.nodes:
        if node.name in ("h", "c") and node.step and node.gradient is not None:
            t, layer = int(node.step.removeprefix("t=")), node.scope.partition("/")[2]
            found.setdefault((layer, node.name), {})[t] = f"{node.step}: {norm_of(node.gradient):.3g}"
    for (layer, name), norms in sorted(found.items(), key=lambda item: (item[0][0], item[0][1] != "h")):
        ends = dict.fromkeys([norms[min(norms)], norms[max(norms)]])
        yield f"‖∂L/∂{name}‖ {layer}{' ' * bool(layer)}{', '.join(ends)}"

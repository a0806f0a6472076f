"""``tinygrad-rnn draw``: unroll a cell, or a network from a file, over a real series, and draw its gradients.

Everything that decides about its numbers is printed. Whether the files can be written is found out before any work,
and each is written whole or not at all.
"""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Sequence
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING

from .experiment import CELL, FEEDING, WHICH, Network, build_network, read_inputs, told
from .options import Command, Problem, refuse
from .outputs import Stages, claim, left, put_json, wrote

if TYPE_CHECKING:
    from ..draw.chart import Decay
    from ..tensor import Tensor


LOOKS = "level fold parameters norm heads colours page view"
"""Options that are `draw`'s own; ``colours`` is its ``scale``, which here is of weights."""


def run(arguments: argparse.Namespace) -> None:
    """Draw, and print what was drawn."""
    from .. import draw, film, gradient_graph
    from ..draw.chart import gradient_through_time
    from ..graph.steps import states
    from ..nn.stacks import run_sequence

    picture, filmed = _picture(arguments), arguments.film is not None
    claim(
        {"--out": picture, "--json": arguments.json},
        {"--data": arguments.data, "--weights": arguments.weights, "--lengths": arguments.lengths},
    )
    data = read_inputs(arguments, most=5)
    steps, count, features = data.values.shape
    networks = _settings(arguments, features, steps)
    network = networks[list(networks)[-1]]
    with Stages("draw", "unrolling", "gradients", "picture", "numbers") as stages:
        stages.begin()
        losses = {}
        for caption, each in networks.items():
            losses[caption], meaning = _loss(arguments, each, *run_sequence(each.module, data.values)[:2])
        loss = losses[list(losses)[-1]]
        stages.begin()
        graph = gradient_graph(loss)
        stages.begin()
        title = arguments.title or f"{network.name}, over {told(data)}"
        try:
            asked = {name: getattr(arguments, name) for name in LOOKS.split() if name in arguments.given}
            asked |= {"scale": asked.pop("colours")} if "colours" in asked else {}
            subtitle = f"{meaning}; {network.initialised}"
            asked |= {"title": title, "subtitle": subtitle, "theme": arguments.theme}
            if filmed:
                film(losses, picture, **asked)
            else:
                draw(graph, picture, **asked)
        except ValueError as error:
            raise Problem(str(error)) from error
        left(arguments, picture)
        stages.begin()
        put_json(arguments, graph.to_json)

    several = f"; sequences: {count}" if count > 1 else ""
    print(f"data    {told(data)}; steps: {steps}, values a step: {features}{several}")
    if data.scale():
        print(f"scale   {data.scale()}")
    print(f"cell    {network.name}, {network.module.dtype}")
    print(f"init    {network.initialised}")
    if filmed:
        print(f"film    {len(losses)} frames; the numbers here are those of {list(losses)[-1]}")
    print(f"loss    {meaning}: {loss.item():.6g}")
    decays = gradient_through_time(graph).decays if states(graph) else ()
    for decay in decays:
        (last, _, before), (first, _, now) = decay.table[0], decay.table[-1]
        print(f"‖∂L/∂{decay.state}‖ t={first}: {now:.3g}, t={last}: {before:.3g}")
    print(f"wrote   {wrote(arguments)}")
    found = "no rate to tell: that takes several steps and --loss last"
    if decays and arguments.loss == "last":
        found = left_of(decays)
    print(f"found   {found}")
    print(f"next    {_flow(arguments, steps)}")


COMMAND = Command(
    "draw",
    "unroll a cell over a series and draw the gradient along every edge",
    "Unroll a cell over a series, run backpropagation through time, and draw the unrolled graph with the gradient that "
    "flows along every edge.",
    f"{CELL} {FEEDING} loss film out json theme title {LOOKS}",
    run,
    {"hidden": 8, "seed": 0, "loss": "last", "theme": "light"},
    says={
        "steps": "time steps; default: 5, or as many as there are",
        "out": ".svg, .png, .pdf, .html, .dot or .gv; default: CELL.svg, or as --weights; of a film .html or .svg",
    },
    operand=WHICH,
)


def _picture(arguments: argparse.Namespace) -> Path:
    """Where the picture, or the film, goes."""
    from ..draw.film import FORMATS as FILMS
    from ..draw.picture import FORMATS
    from ..files import printable

    filmed = arguments.film is not None
    if filmed:
        refuse(arguments, "json", "is of one picture, and --film draws many")
    name = arguments.weights.stem if arguments.weights else arguments.operands or arguments.cell
    path: Path = arguments.out or Path(f"{name}.{'html' if filmed else 'svg'}")
    formats = FILMS if filmed else FORMATS
    if path.suffix.lower() not in formats:
        raise Problem(f"{printable(path)}: expected a name that ends in {', '.join(formats)}")
    return path


def _settings(arguments: argparse.Namespace, features: int, steps: int) -> dict[str, Network]:
    """The network, or that of each setting of --film, under its caption."""
    name, values = arguments.film or ("", [0.0])
    refuse(arguments, [name] if name in CELL.split() else [], "is what --film varies")
    found = {}
    for value in values:
        changed = {name: value, "given": arguments.given | {name}} if name in CELL.split() else {}
        own = argparse.Namespace(**vars(arguments) | changed)
        network = build_network(own, features, t_max=steps)
        arguments.cell = own.cell
        for key, weight in network.module.parameters().items() if name == "scale" else ():
            weight.data = weight.data * (value if "weight_hh" in key else 1.0)
        found[f"{name.replace('_', ' ')} {value:.4g}".replace("-", "−") if name else ""] = network
    if len(found) < len(values):
        raise Problem("--film: two frames would have one caption, as their values differ by too little")
    return found


def _loss(arguments: argparse.Namespace, network: Network, outputs: Tensor, last: Tensor) -> tuple[Tensor, str]:
    """v·h, v a random unit vector, which favours no unit: ∂L/∂h at the last step has norm 1. As `gradient_flow` has it.

    It is the mean over the sequences.
    """
    import numpy as np

    from ..tensor import Tensor

    # A stream of its own: the direction is not made of the numbers that made the parameters.
    direction = np.random.default_rng([arguments.seed, 1]).standard_normal(network.width)
    v = Tensor((direction / np.linalg.norm(direction)).astype(network.module.dtype), name="v")
    mean = ", mean over the sequences" if last.shape[0] > 1 else ""
    if arguments.loss == "last":
        return (last @ v).mean(), f"L = v·h at the last step, v a random unit vector{mean}"
    return (outputs @ v).sum(axis=0).mean(), f"L = Σ v·h over all steps, v a random unit vector{mean}"


def left_of(decays: Sequence[Decay]) -> str:
    """How the gradient at the first step compares with that at the last, of the state that keeps most of it."""
    shares = {d.table[-1][2] / (d.table[0][2] or inf): d for d in decays}
    share, decay = max(shares.items())
    first, lag, _ = decay.table[-1]
    size = f"{100 * share:.3g} % of" if 0.001 <= share < 10 else f"{share:.1g} times"
    factor = f", on average × {share ** (1 / lag):.3g} a step" if 0 < share < inf else ""
    return f"∂L/∂{decay.state} at t={first} is {size} that at t={decay.table[0][0]}{factor}"


def _flow(arguments: argparse.Namespace, steps: int) -> str:
    """The command that says why, of the same network and data, over as many steps as there are."""
    words = ["tinygrad-rnn", "flow", *([arguments.cell] if arguments.weights is None else [])]
    for name in f"{CELL} {FEEDING}".split():
        values = getattr(arguments, name) if name in arguments.given - {"cell", "steps"} else []
        for value in values if isinstance(values, list) else [values]:
            flag = f"--{'no-' if value is False else ''}{name.replace('_', '-')}"
            words.append(flag if isinstance(value, bool) else f"{flag}={value}")
    if arguments.windows is not None:  # of which not so many may be as long as flow would have them
        words.append(f"--steps={steps}")
    return shlex.join(words)

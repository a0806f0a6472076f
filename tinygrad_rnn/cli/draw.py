"""``tinygrad-rnn draw``: unroll a cell, or a network from a file, over a real series, and draw its gradients.

Everything that decides about its numbers is printed. Whether the files can be written is found out before any work,
and each is written whole or not at all.
"""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Sequence
from contextlib import closing
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING

from .experiment import CELL, FEEDING, WHICH, Network, build_network, read_inputs, told
from .options import Command, Problem, chosen, in_options, refuse
from .outputs import claim, left, put_json, stages, wrote

if TYPE_CHECKING:
    from ..draw.chart import Decay
    from ..tensor import Tensor


LOOKS = "theme level fold parameters norm heads page view"
"""Options that are `draw`'s own. So is ``colours``: there it is ``scale``, which here is of weights."""


def run(arguments: argparse.Namespace) -> None:
    """Unroll a cell over a series and draw the gradient along every edge.

    What is unrolled is a new cell, or a network from a file; what it is fed with is a series of your own, the packaged
    one, or noise. Says besides how much of the gradient is left at the first step.
    """
    from .. import draw, film, gradient_graph
    from ..draw.chart import gradient_through_time
    from ..graph.steps import states
    from ..nn.stacks import run_sequence

    picture = _picture(arguments)
    claim(arguments, {"--out": picture, "--json": arguments.json})
    data = read_inputs(arguments, most=5)
    steps, count, features = data.values.shape
    networks = _settings(arguments, features, steps)
    network = networks[list(networks)[-1]]
    with closing(stages("draw", "unrolling", "gradients", "picture", "numbers")) as begin:
        next(begin)
        losses = {}
        for caption, each in networks.items():
            losses[caption], meaning = _loss(arguments, each, *run_sequence(each.module, data.values)[:2])
        loss = losses[list(losses)[-1]]
        next(begin)
        graph = gradient_graph(loss)
        next(begin)
        looks = chosen(arguments, LOOKS) | ({"scale": arguments.colours} if arguments.colours else {})
        title = arguments.title or f"{network.name}, over {told(data)}"
        looks |= {"title": title, "subtitle": f"{meaning}; {network.initialised}"}
        with in_options():
            film(losses, picture, **looks) if arguments.film else draw(graph, picture, **looks)
        left(arguments, picture)
        next(begin)
        put_json(arguments, graph.to_json)

    several = f"; sequences: {count}" if count > 1 else ""
    print(f"data    {told(data)}; steps: {steps}, values a step: {features}{several}")
    if data.scale():
        print(f"scale   {data.scale()}")
    print(f"cell    {network.name}, {network.module.dtype}")
    print(f"init    {network.initialised}")
    if arguments.film:
        print(f"film    {len(losses)} frames; the numbers here are those of {list(losses)[-1]}")
    print(f"loss    {meaning}: {loss.item():.6g}")
    decays = gradient_through_time(graph).decays if states(graph) else ()
    for decay in decays:
        (last, _, before), (first, _, now) = decay.table[0], decay.table[-1]
        print(f"‖∂L/∂{decay.state}‖ t={first}: {now:.3g}, t={last}: {before:.3g}")
    print(f"wrote   {wrote(arguments)}")
    compared = decays and arguments.loss == "last"
    print(f"found   {left_of(decays) if compared else 'no rate to tell: that takes several steps and --loss last'}")
    print(f"next    {_flow(arguments, steps)}")


COMMAND = Command(
    "draw",
    run,
    f"{CELL} {FEEDING} loss film out json title colours {LOOKS}",
    {"hidden": 8, "seed": 0, "loss": "last", "theme": "light"}
    | {"parameters": "auto", "norm": "l2", "heads": "gradient", "view": "unrolled"},
    says={
        "steps": {"help": "time steps; default: 5, or as many as there are"},
        "out": {
            "help": ".svg, .png, .pdf, .html, .dot or .gv; default: CELL.svg, or as --weights; a film: .svg or .html; "
            "default: CELL.html"
        },
    },
    operand=WHICH,
)


def _picture(arguments: argparse.Namespace) -> Path:
    """Where the picture, or the film, goes."""
    from ..draw.film import FORMATS as FILMS
    from ..draw.picture import FORMATS
    from ..files import printable

    if arguments.film:
        refuse(arguments, "json", "is of one picture, and --film draws many")
    formats, usual = (FILMS, "html") if arguments.film else (FORMATS, "svg")
    name = arguments.weights.stem if arguments.weights else arguments.operands or arguments.cell
    path: Path = arguments.out or Path(f"{name}.{usual}")
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
    """The loss that `gradient_flow` takes, as the mean over the sequences, and what it is."""
    from ..diagnose.experiment import Experiment, unit
    from ..tensor import Tensor

    # A stream of its own: the direction is not made of the numbers that made the parameters.
    v = Tensor(unit([arguments.seed, 1], last.shape[-1:]).astype(network.module.dtype), name="v")
    loss = (last @ v).mean() if arguments.loss == "last" else (outputs @ v).sum(axis=0).mean()
    told = Experiment(network.module, loss=arguments.loss).describe()
    return loss, told + (", mean over the sequences" if last.shape[0] > 1 else "")


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

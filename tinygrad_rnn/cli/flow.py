"""``tinygrad-rnn flow``: where the gradient of a network goes through time, in numbers, in words and as a chart."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from .options import NAMES, Problem, add_cell, add_data, add_weights, build_network, check_writable, read_data


def add_to(commands: Any) -> None:
    """Declare the command."""
    from ..diagnose.verdict import WORDS

    parser = commands.add_parser(
        "flow",
        help="say why a network does not learn: its gradient through time, measured",
        description="Follow the gradient back through time and say in words where it goes, why, and what to change. "
        "Ends with 0; with 1 if the verdict is one of --fail-on; with 2 after an error.",
    )
    add = parser.add_argument
    add("--cell", choices=tuple(NAMES), help="or --weights")
    add_data(parser, steps=100)
    add("--noise", type=int, metavar="I", help="instead of data, I standard normal values a step (16 sequences)")
    add_cell(parser)
    add_weights(parser)
    add("--loss", choices=("last", "all"), default="last", help="of which steps; default: %(default)s")
    add("--out", type=Path, metavar="FILE", help="the chart: .svg, .png, .pdf; needs tinygrad-rnn[plot]")
    add("--json", type=Path, metavar="FILE", help="also write the numbers, as JSON")
    add("--fail-on", default="", metavar="WORDS", help=f"end with 1 on these verdicts: {', '.join(WORDS)}")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Measure, print, write."""
    import numpy as np

    from ..diagnose import gradient_flow
    from ..diagnose.verdict import WORDS
    from ..draw.figure import check_format, new_figure

    unwanted = [word.strip() for word in arguments.fail_on.split(",") if word.strip()]
    if strange := [word for word in unwanted if word not in WORDS]:
        raise Problem(f"--fail-on {', '.join(strange)}: the verdicts are {', '.join(WORDS)}")
    try:
        if arguments.out:
            check_format(arguments.out)
            new_figure()
    except (ValueError, ImportError) as error:
        raise Problem(str(error)) from error
    if arguments.out and arguments.json and arguments.out.resolve() == arguments.json.resolve():
        raise Problem(f"{arguments.out}: cannot be both the chart and --json")
    for target in filter(None, (arguments.out, arguments.json)):
        check_writable(target)
    if arguments.noise is not None:
        if arguments.data or not 1 <= arguments.noise <= 10_000:
            raise Problem("--noise takes the number of values a step, from 1 to 10000, and no --data")
        shape = (arguments.steps, 16, arguments.noise)
        inputs, described = np.random.default_rng([arguments.seed, 2]).standard_normal(shape), "standard normal noise"
    else:
        values, described = read_data(arguments)
        inputs = values[:, None, :]
    network = build_network(arguments, inputs.shape[2])
    when = "after training" if arguments.weights else "at initialisation"
    if getattr(network.module, "batch_first", False):
        inputs = inputs.transpose(1, 0, 2)
    try:
        flow = gradient_flow(network.module, inputs, arguments.loss, rng=arguments.seed, when=when)
    except (ValueError, TypeError) as error:
        raise Problem(str(error)) from error
    print(f"data      {described}")
    print(f"init      {network.initialised}")
    print(flow.text())
    if arguments.out:
        flow.save(arguments.out)
    if arguments.json:
        flow.to_json(arguments.json)
    if arguments.out or arguments.json:
        print(f"wrote     {', '.join(str(p) for p in (arguments.out, arguments.json) if p)}")
    return int(flow.word in unwanted)

"""``tinygrad-rnn flow``: how far back the loss of a network sees, in numbers, in words and as a chart."""

from __future__ import annotations

import argparse
import json
import operator
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..files import printable
from .experiment import CELL, FEEDING, WHICH, build_network, read_inputs, task_of, told
from .options import Command, Problem, chosen, in_options, refuse
from .outputs import claim, left, put_json, wrote

if TYPE_CHECKING:
    from ..data import Data
    from ..diagnose import GradientFlow

LOST = 3
BOUND = re.compile(r"(D|reach)\s*([<>])\s*(-?\d+(?:\.\d+)?)")


def run(arguments: argparse.Namespace) -> int:
    """Say why a network does not learn: how far back its loss sees, measured.

    Follow the gradient back through time and say in words how far back the loss sees, what default networks do, and
    which changes were found to help; several --weights are compared. Ends with 0; with 1 if the verdict is one of
    --fail-on; with 2 after an error; with 3 if parameters are not finite.
    """
    from ..diagnose import compare
    from ..diagnose.experiment import NotFinite

    unwanted = _unwanted(arguments)
    named = _named(arguments.weights or [])
    _claim(arguments)
    data, task = _inputs(arguments)
    flows = {}
    for name, path in named.items():
        arguments.weights = path
        try:
            flows[name] = _measured(arguments, data)
        except NotFinite as error:
            said = f"{f'{name}: ' if path else ''}{error}"
            lost = json.dumps({"verdict": {"word": "no network", "reason": said}}, ensure_ascii=False, indent=1)
            print(f"verdict   NO NETWORK: {said}")
            put_json(arguments, partial(str, f"{lost}\n"))
            return LOST
    print(f"data      {told(data)}")
    if data.scale():
        print(f"scale     {data.scale()}")
    for flow in flows.values():
        print(f"init      {flow.about['init']}")
    found: Any = next(iter(flows.values())) if len(flows) == 1 else compare(flows)
    print(found.text())
    if task is not None:
        print(_cured(arguments, found, task))
    if arguments.out:
        found.save(arguments.out)
        left(arguments, arguments.out)
    put_json(arguments, found.to_json)
    if wrote(arguments):
        print(f"wrote     {wrote(arguments)}")
    return int(any(unwanted(flow) for flow in flows.values()))


def _unwanted(arguments: argparse.Namespace) -> Callable[[GradientFlow], bool]:
    """Whether a report has one of the words of --fail-on, or is beyond one of its bounds of D or of the reach."""
    from ..diagnose.verdict import WORDS

    items = [item.strip() for item in (arguments.fail_on or "").split(",") if item.strip()]
    bounds = [bound for item in items if (bound := BOUND.fullmatch(item))]
    strange = [item for item in items if item not in WORDS and not BOUND.fullmatch(item)]
    if strange or (arguments.fail_on is not None and not items):
        such = "bounds are such as 'D>4' and 'reach<50'"
        raise Problem(f"--fail-on {', '.join(strange)}: the verdicts are {', '.join(WORDS)}; {such}")

    def unwanted(flow: GradientFlow) -> bool:
        measured = {"D": flow.judgement.decades, "reach": flow.judgement.reach}
        beyond = {"<": operator.lt, ">": operator.gt}
        return flow.word in items or any(
            beyond[sign](measured[name], float(v)) for name, sign, v in map(re.Match.groups, bounds)
        )

    return unwanted


def _named(files: list[Path]) -> dict[str, Path | None]:
    """The files by what their lines are called: the name, or the whole path where several have one name."""
    names = [path.name for path in files]
    named = {path.name if names.count(path.name) == 1 else str(path): path for path in files}
    if len(named) < len(files):
        again = next(path for path in files if files.count(path) > 1)
        raise Problem(f"--weights {printable(again)} is given twice: give each file once")
    return {printable(name): path for name, path in named.items()} or {"": None}


def _claim(arguments: argparse.Namespace) -> None:
    from ..figure import check_format, new_figure

    if arguments.out:
        with in_options():
            if check_format(arguments.out, ".csv", ".html").suffix.lower() not in (".csv", ".html"):
                new_figure()
    claim(arguments, {"--out": arguments.out, "--json": arguments.json})


def _inputs(arguments: argparse.Namespace) -> tuple[Data, Any]:
    """What the network is fed with, and the task of --cure, whose sequences take the place of data."""
    import numpy as np

    from ..data import Data

    if arguments.cure is None:
        refuse(arguments, "updates", "belongs to --cure")
        return read_inputs(arguments, most=100), None
    refuse(arguments, f"weights {FEEDING.replace('steps', '')}", "is not asked with --cure")
    task = task_of(arguments.cure, length=arguments.steps or 50)
    values = task.batch(np.random.default_rng([arguments.seed, 1]), 16)[0]
    return Data(values, f"16 sequences of the task {task!r}"), task


def _measured(arguments: argparse.Namespace, data: Data) -> GradientFlow:
    from ..diagnose import gradient_flow
    from ..diagnose.experiment import check_finite

    network = build_network(arguments, data.values.shape[2], t_max=len(data.values))
    check_finite(network.module)
    options = chosen(arguments, "lag read") | {"trained": network.trained, "when": network.when}
    with in_options():
        flow = gradient_flow(network.module, data.values, arguments.loss, rng=arguments.seed, **options)
    flow.about = {"data": told(data), "init": network.initialised, "file": str(arguments.weights or "")}
    return flow


def _cured(arguments: argparse.Namespace, flow: GradientFlow, task: Any) -> str:
    """The network as it is and the first changes, trained on the task."""
    import numpy as np

    from ..diagnose import cure
    from ..train import Adam, SequenceModel, fit

    def train(network: Any) -> list[float]:
        model = SequenceModel(network, task, rng=np.random.default_rng([arguments.seed, 2]))
        options: dict[str, Any] = {"clip_norm": 1.0, "seed": arguments.seed, "derived": True, "progress": False}
        history = fit(model, task, Adam(model, lr=0.01), arguments.updates or 500, **options)
        return history.losses

    return str(cure(flow, train, below=0.8 * task.baseline))


COMMAND = Command(
    "flow",
    run,
    f"{CELL} {FEEDING} loss lag read cure updates out json fail_on",
    {"hidden": 8, "seed": 0, "loss": "last"},
    says={
        "steps": {"help": "time steps; default: 100, or as many as there are; with --cure 50"},
        "out": {"help": "the chart (.svg, .png, .pdf; needs tinygrad-rnn[plot]), .csv, or .html with all of it"},
        "updates": {"help": "with --cure: so many batches, one update each; default: 500"},
        "weights": {"action": "append"},
    },
    operand=WHICH,
)

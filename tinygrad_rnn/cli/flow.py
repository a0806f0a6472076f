"""``tinygrad-rnn flow``: how far back the loss of a network sees, in numbers, in words and as a chart."""

from __future__ import annotations

import argparse
import operator
import re
from typing import TYPE_CHECKING, Any

from .experiment import CELL, FEEDING, WHICH, build_network, read_inputs, told
from .options import Command, Problem, refuse
from .outputs import claim, left, put_json, wrote

if TYPE_CHECKING:
    from ..diagnose import GradientFlow

LOST = 3
BOUND = re.compile(r"(D|reach)\s*([<>])\s*(-?\d+(?:\.\d+)?)")


def run(arguments: argparse.Namespace) -> int:
    """Measure, print, write."""
    from ..data import Data
    from ..diagnose import compare
    from ..diagnose.experiment import NotFinite

    unwanted = _unwanted(arguments)
    files = arguments.weights or []
    _claim(arguments, files)
    task = _task(arguments)
    if task is None:
        data = read_inputs(arguments, most=100)
    else:
        import numpy as np

        values = task.batch(np.random.default_rng([arguments.seed, 1]), 16)[0]
        data = Data(values, f"16 sequences of the task {task!r}")
    flows = {}
    for path in files or [None]:
        arguments.weights = path
        try:
            flows[path.name if path else ""] = _measured(arguments, data)
        except NotFinite as error:
            print(f"verdict   NO NETWORK: {error}")
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
    return int(any(wrong(flow) for flow in flows.values() for wrong in unwanted))


def _unwanted(arguments: argparse.Namespace) -> list[Any]:
    """Tests of a report, one for each item of --fail-on: a word, or a bound of D or of the reach."""
    from ..diagnose.verdict import WORDS

    tests: list[Any] = []
    items = [item.strip() for item in (arguments.fail_on or "").split(",") if item.strip()]
    strange = [item for item in items if item not in WORDS and not BOUND.fullmatch(item)]
    if strange or (arguments.fail_on is not None and not items):
        bounds = "bounds are such as 'D>4' and 'reach<50'"
        raise Problem(f"--fail-on {', '.join(strange)}: the verdicts are {', '.join(WORDS)}; {bounds}")
    for item in items:
        if (bound := BOUND.fullmatch(item)) is None:
            tests.append(lambda flow, word=item: flow.word == word)
            continue
        name = {"D": "decades", "reach": "reach"}[bound[1]]
        compared = operator.lt if bound[2] == "<" else operator.gt
        tests.append(lambda flow, n=name, c=compared, v=float(bound[3]): c(getattr(flow.judgement, n), v))
    return tests


def _claim(arguments: argparse.Namespace, files: list[Any]) -> None:
    from ..draw.figure import check_format, new_figure

    try:
        if arguments.out and arguments.out.suffix.lower() not in (".csv", ".html"):
            check_format(arguments.out)
            new_figure()
    except (ValueError, ImportError) as error:
        raise Problem(str(error)) from error
    names = [path.name for path in files]
    if again := [name for name in names if names.count(name) > 1]:
        raise Problem(f"--weights: two files are called {again[0]}, and so would their lines")
    inputs = {"--data": arguments.data, "--lengths": arguments.lengths}
    inputs |= {f"--weights{k or ''}": path for k, path in enumerate(files)}
    claim({"--out": arguments.out, "--json": arguments.json}, inputs)


def _task(arguments: argparse.Namespace) -> Any:
    """The task of --cure; its sequences take the place of data."""
    from .. import train

    if arguments.cure is None:
        refuse(arguments, "updates", "belongs to --cure")
        return None
    refuse(arguments, f"weights {FEEDING.replace('steps', '')}", "is not asked with --cure")
    length = arguments.steps or 50
    try:
        if arguments.cure == "copying":
            return train.Copying(length)
        if arguments.cure == "temporal-order":
            return train.TemporalOrder(length)
        return train.Adding(length, minimal_lag=arguments.cure.endswith("minimal-lag"))
    except ValueError as error:
        raise Problem(str(error)) from error


def _measured(arguments: argparse.Namespace, data: Any) -> GradientFlow:
    from ..diagnose import gradient_flow

    network = build_network(arguments, data.values.shape[2], t_max=len(data.values))
    options = {"lag": arguments.lag, "read": arguments.read, "rng": arguments.seed}
    options |= {"trained": network.trained, "when": network.when}
    try:
        flow = gradient_flow(network.module, data.values, arguments.loss, **options)
    except (ValueError, TypeError) as error:
        from ..diagnose.experiment import NotFinite

        if isinstance(error, NotFinite):
            raise
        raise Problem(str(error)) from error
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
    "say why a network does not learn: how far back its loss sees, measured",
    "Follow the gradient back through time and say in words how far back the loss sees, what default networks do, and "
    "which changes were found to help; several --weights are compared. Ends with 0; with 1 if the verdict is one of "
    "--fail-on; with 2 after an error; with 3 if parameters are not finite.",
    f"{CELL} {FEEDING} loss lag read cure updates out json fail_on",
    run,
    {"hidden": 8, "seed": 0, "loss": "last"},
    again="weights",
    says={
        "steps": "time steps; default: 100, or as many as there are; with --cure 50",
        "out": "the chart (.svg, .png, .pdf; needs tinygrad-rnn[plot]), .csv, or .html with all of it",
        "updates": "with --cure: so many batches, one update each; default: 500",
        "weights": "a network's parameters, .safetensors or .npz, instead of a cell (again to compare)",
    },
    operand=WHICH,
)

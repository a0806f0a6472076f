"""``tinygrad-rnn sweep``: how fast the gradient vanishes or explodes, over every combination of settings, as a map.

The table grows on disk while the sweep runs, and the same command goes on where it was interrupted.
"""

from __future__ import annotations

import argparse
import itertools
import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .options import NAMES, Problem, check_writable, finite, whole

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from ..diagnose import Grid, Table

MOST_VALUES, MOST_MAPS = 1000, 24
OF_CELL = {
    "rnn": ("nonlinearity", "weights", "bias", "input_scale", "centred"),
    "lstm": ("forget_bias", "input_bias", "chrono"),
    "gru": ("update_bias", "chrono"),
}


def several(convert: Callable[[str], Any]) -> Callable[[str], list[Any]]:
    """The type of an option with values between commas; of numbers also ``a:b:n``, n of them evenly from a to b."""

    def parse(text: str) -> list[Any]:
        values: list[Any] = []
        for part in text.split(","):
            if convert is not finite or part.count(":") != 2:
                values.append(convert(part.strip()))
                continue
            first, last, count = part.split(":")
            a, b, n = finite(first), finite(last), whole(2, MOST_VALUES)(count.strip())
            # Rounded, so that 1 is 1 whatever it lies between: the table finds a value again by its digits.
            values += [float(f"{a + (b - a) * k / (n - 1):.12g}") for k in range(n)]
        if len(values) > MOST_VALUES:
            raise argparse.ArgumentTypeError(f"more than {MOST_VALUES} values")
        return list(dict.fromkeys(values))

    return parse


def one_of(*names: str) -> Callable[[str], str]:
    """The type of a value that is one of several words."""

    def convert(text: str) -> str:
        if text not in names:
            raise argparse.ArgumentTypeError(f"{text!r} is none of {', '.join(names)}")
        return text

    return convert


def add_to(commands: Any) -> None:
    """Declare the command."""
    parser = commands.add_parser(
        "sweep",
        help="map where the gradient vanishes and where it explodes",
        description="Measure how fast the gradient falls or grows on its way back, at initialisation, for every "
        "combination of the values given, and draw the map with the theory's boundary on it. Values stand between "
        "commas; 0.5:2:7 are 7 numbers evenly from 0.5 to 2. The same command again goes on where it was interrupted.",
    )
    add = parser.add_argument
    numbers, counts = several(finite), several(whole(1, 100_000))
    add(
        "--cell", type=several(one_of(*NAMES)), default=["rnn"], metavar="CELL,...", help="rnn, lstm, gru; default: rnn"
    )
    words = several(one_of("tanh", "relu", "sigmoid", "identity"))
    add(
        "--nonlinearity",
        type=words,
        metavar="NAME,...",
        help="of the rnn: tanh, relu, sigmoid, identity; default: tanh",
    )
    kinds = several(one_of("orthogonal", "gaussian", "radius", "uniform"))
    add("--weights", type=kinds, metavar="KIND,...", help="of the rnn: orthogonal, gaussian, radius, uniform")
    add("--scale", type=numbers, default=[1.0], metavar="G,...", help="of the recurrent weights; default: 1")
    add("--bias", type=numbers, metavar="B,...", help="of the rnn; default: 0")
    add("--centred", action="store_true", help="of the rnn: b = -W/2, which keeps a sigmoid's operands around 0")
    add("--input-scale", type=numbers, metavar="S,...", help="of the rnn's input weights; default: 1")
    add("--forget-bias", type=numbers, metavar="B,...", help="of the lstm")
    add("--input-bias", type=numbers, metavar="B,...", help="of the lstm's input gate")
    add("--update-bias", type=numbers, metavar="B,...", help="of the gru")
    add("--chrono", type=counts, metavar="LAG,...", help="of lstm and gru: gate biases for lags up to this")
    add("--hidden", type=counts, default=[64], metavar="H,...", help="hidden units; default: 64")
    add("--steps", type=counts, default=[100], metavar="T,...", help="default: 100")
    add(
        "--seeds", type=whole(1, 100_000), default=5, metavar="N", help="networks and inputs each; default: %(default)s"
    )
    add("--x", metavar="SETTING", help="along the map's horizontal axis; default: scale, if it varies")
    add("--y", metavar="SETTING", help="along its vertical axis; default: the first other one that varies")
    add("--out", type=Path, default=Path("atlas"), metavar="FOLDER", help="default: %(default)s")
    add("--format", choices=("svg", "png", "pdf"), default="svg", help="of the map; default: %(default)s")
    add("--workers", type=whole(1, 1024), default=1, metavar="N", help="processes; default: %(default)s")
    add("--cluster", metavar="ADDRESS", help="of a dask scheduler, instead of --workers")
    add("--retry", action="store_true", help="measure again what failed")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Measure, write table and maps, and print the medians; 1 if a job failed."""
    from ..diagnose import TableError, sweep
    from ..diagnose.networks import slope_of
    from ..draw.figure import new_figure

    jobs = Jobs(arguments)
    x, y, rest = _axes(arguments, jobs)
    try:
        new_figure()  # if the map cannot be drawn, that is better known now
        arguments.out.mkdir(parents=True, exist_ok=True)
    except ImportError as error:
        raise Problem(str(error)) from error
    path = arguments.out / "table.jsonl"
    check_writable(path)
    try:
        with _executor(arguments) as executor:
            in_flight = 4 * sum(executor._client.nthreads().values()) if arguments.cluster else None  # type: ignore[union-attr]
            table = sweep(jobs, slope_of, executor, path=path, retry=arguments.retry, in_flight=in_flight)
    except KeyboardInterrupt:
        raise Problem(f"interrupted; the same command goes on from what is in {path}") from None
    except (TableError, RuntimeError) as error:
        raise Problem(str(error)) from error
    table.to_csv(arguments.out / "table.csv")
    written = [arguments.out / "table.csv", *_maps(arguments, table, x, y, rest)]
    print(table.summary("slope", by=[*dict.fromkeys((*rest, y, x))]))
    print(f"wrote {path}, {', '.join(map(str, written))}")
    failed = [error for error in table["error"] if error is not None] if "error" in table.columns else []
    if failed:
        print(f"{len(failed)} of {len(table)} failed, the first with {failed[0]}")
    return 1 if failed else 0


class Jobs:
    """All configurations, those of each cell with the settings that it has."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        from ..diagnose import grid

        given = {name: getattr(arguments, name) for name in dict.fromkeys(itertools.chain(*OF_CELL.values()))}
        given["centred"] = [True] if arguments.centred else None
        self.settings = {name: values for name, values in given.items() if values}
        for name in self.settings:
            if not any(name in OF_CELL[cell] for cell in arguments.cell):
                owners = " or ".join(cell for cell, own in OF_CELL.items() if name in own)
                cells = ", ".join(arguments.cell)
                raise Problem(f"--{name.replace('_', '-')} belongs to {owners}, and the cell is {cells}")
        if "rnn" in arguments.cell:
            self.settings.setdefault("nonlinearity", ["tanh"])
        common = {"scale": arguments.scale, "hidden": arguments.hidden, "steps": arguments.steps}
        self.settings |= {"cell": arguments.cell, **common}
        self.grids: list[Grid] = []
        for cell in arguments.cell:
            own = {name: self.settings[name] for name in OF_CELL[cell] if name in self.settings}
            self.grids.append(grid(cell=cell, **own, **common, seed=range(arguments.seeds)))

    def __len__(self) -> int:
        return sum(map(len, self.grids))

    def __iter__(self) -> Iterator[Any]:
        return itertools.chain(*self.grids)

    @property
    def varied(self) -> list[str]:
        """The settings that have several values."""
        return [name for name, values in self.settings.items() if len(values) > 1]


def _axes(arguments: argparse.Namespace, jobs: Jobs) -> tuple[str, str, list[str]]:
    """The settings along the axes, and those that vary besides: a map for each of their combinations."""
    for name in (arguments.x, arguments.y):
        if name is not None and name.replace("-", "_") not in jobs.settings:
            raise Problem(f"{name!r} is no setting of this sweep; there are {', '.join(jobs.settings)}")
    varied = jobs.varied
    numeric = [name for name in varied if name not in ("cell", "nonlinearity", "weights")]
    x = (arguments.x or ("scale" if "scale" in varied or not numeric else numeric[0])).replace("-", "_")
    others = [name for name in varied if name != x]
    y = (arguments.y or (others[0] if others else "nonlinearity" if arguments.cell == ["rnn"] else "cell")).replace(
        "-", "_"
    )
    if x == y:
        raise Problem(f"--x and --y are both {x}")
    rest = [name for name in others if name != y]
    if (count := math.prod(len(jobs.settings[name]) for name in rest)) > MOST_MAPS:
        raise Problem(f"{', '.join(rest)} vary besides {x} and {y}, which makes {count} maps: give fewer values")
    return x, y, rest


def _maps(arguments: argparse.Namespace, table: Table, x: str, y: str, rest: list[str]) -> Iterator[Path]:
    """One map for each combination of what varies besides the axes."""
    from ..diagnose.atlas import draw_atlas

    for values in itertools.product(*(table.values(name) for name in rest)):
        part = table.where(**dict(zip(rest, values, strict=True)))
        if len(part):
            tail = "".join(f"-{name}={value}" for name, value in zip(rest, values, strict=True))
            path = arguments.out / f"map{tail}.{arguments.format}"
            draw_atlas(part, path, x=x, y=y)
            yield path


def _executor(arguments: argparse.Namespace) -> AbstractContextManager[Executor | None]:
    from ..diagnose import process_pool

    if arguments.cluster:
        return _cluster(arguments.cluster)
    return process_pool(arguments.workers) if arguments.workers > 1 else nullcontext()


@contextmanager
def _cluster(address: str) -> Iterator[Executor]:
    try:
        from distributed import Client
    except ImportError as error:
        raise Problem('--cluster needs dask.distributed: pip install "tinygrad-rnn[cluster]"') from error
    try:
        client: Any = Client(address, timeout=10)
    except (OSError, ValueError) as error:
        raise Problem(f"no scheduler answers at {address}: {error}") from error
    with client:
        yield client.get_executor()

"""``tinygrad-rnn sweep``: how fast the gradient vanishes or explodes, over every combination of settings, as a map.

The table grows on disk while the sweep runs, and the same command goes on where it was interrupted.
"""

from __future__ import annotations

import argparse
import itertools
import math
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..files import printable
from .experiment import OF_CELL, refuse_of_others
from .options import Command, Problem, chosen, in_options, whole
from .outputs import claim, left, wrote

if TYPE_CHECKING:
    from ..atlas import Grid

MOST_MAPS = 24
SETTING = {"recurrent": "weights"}
"""Options that the table, which is older, has under another name."""


def run(arguments: argparse.Namespace) -> int:
    """Map where the gradient vanishes and where it explodes.

    Measure how fast the gradient falls or grows on its way back, at initialisation, for every combination of the values
    given, and draw the map with the theory's boundary on it. Values stand between commas; 0.5:2:7 are 7 numbers evenly
    from 0.5 to 2. The same command again goes on where it was interrupted.
    """
    from ..atlas import draw_atlas, process_pool, slope_of, sweep
    from ..figure import new_figure

    jobs = Jobs(arguments)
    x, y, rest = _axes(arguments, jobs)
    folder: Path = arguments.out
    path, spreadsheet = folder / "table.jsonl", folder / "table.csv"
    maps: dict[tuple[Any, ...], Path] = {}
    for values in itertools.product(*map(jobs.values, rest)):
        tail = "".join(f"-{name}={value}" for name, value in zip(rest, values, strict=True))
        maps[values] = folder / f"map{tail}.{arguments.format}"
    with in_options():
        new_figure()  # if the map cannot be drawn, that is better known now
    if not path.exists() and (others := [found for found in (spreadsheet, *maps.values()) if found.exists()]):
        raise Problem(f"{printable(others[0])}: is there already, but no table it could be of: choose another --out")
    folder.mkdir(parents=True, exist_ok=True)
    claim(arguments, {printable(target): target for target in (path, spreadsheet, *maps.values())})
    arguments.after = lambda: (
        f"the same command goes on from the {_rows(path)} of {len(jobs)} rows in {printable(path)}"
    )
    with process_pool(arguments.workers) if arguments.workers > 1 else nullcontext() as executor, in_options():
        table = sweep(jobs, slope_of, executor, path=path, retry=bool(arguments.retry))
    left(arguments, path)
    table.to_csv(spreadsheet)
    left(arguments, spreadsheet)
    for values, target in maps.items():
        if len(part := table.where(**dict(zip(rest, values, strict=True)))):
            draw_atlas(part, target, x=x, y=y)
            left(arguments, target)
    print(table.summary("slope", by=[*dict.fromkeys((*rest, y, x))]))
    print(f"wrote {wrote(arguments)}")
    failed = [error for error in table["error"] if error is not None] if "error" in table.columns else []
    if failed:
        print(f"{len(failed)} of {len(table)} failed, the first with {failed[0]}")
    return 1 if failed else 0


COMMAND = Command(
    "sweep",
    run,
    "cell nonlinearity recurrent scale bias centred input_scale forget_bias input_bias update_bias chrono hidden steps "
    "seeds x y out format workers retry",
    {
        "cell": ["rnn"],
        "scale": [1.0],
        "hidden": [64],
        "steps": [100],
        "seeds": 5,
        "out": Path("atlas"),
        "format": "svg",
        "workers": 1,
    },
    lists="cell nonlinearity recurrent scale bias input_scale forget_bias input_bias update_bias chrono hidden steps",
    says={
        "out": {"help": "a folder"},
        "cell": {"help": "rnn, lstm, gru"},
        "steps": {"help": "time steps, at least the two that a slope needs", "type": whole(2, 100_000)},
    },
)


class Jobs:
    """All configurations, those of each cell with the settings that it has."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        from ..atlas import grid

        refuse_of_others(arguments, arguments.cell, "--chrono" if arguments.chrono else "")
        common = chosen(arguments, "scale hidden steps")
        self.grids: list[Grid] = []
        self.settings: dict[str, list[Any]] = {}
        for cell in arguments.cell:
            given = {"nonlinearity": ["tanh"]} if cell == "rnn" else {}
            for name, value in chosen(arguments, OF_CELL[cell]).items():
                given[SETTING.get(name, name)] = value if isinstance(value, list) else [value]
            self.grids.append(grid(cell=cell, **given, **common, seed=range(arguments.seeds)))
            self.settings |= given
        self.settings |= {"cell": arguments.cell, **common}

    def __len__(self) -> int:
        return sum(map(len, self.grids))

    def __iter__(self) -> Iterator[Any]:
        return itertools.chain(*self.grids)

    @property
    def varied(self) -> list[str]:
        """The settings that have several values."""
        return [name for name, values in self.settings.items() if len(values) > 1]

    def values(self, name: str) -> list[Any]:
        """All values of a setting; None, if some cells have no such setting."""
        return list(dict.fromkeys(value for one in self.grids for value in one.settings.get(name, (None,))))


def _axes(arguments: argparse.Namespace, jobs: Jobs) -> tuple[str, str, list[str]]:
    """The settings along the axes, and those that vary besides: a map for each of their combinations."""

    def chosen(name: str | None) -> str | None:
        setting = name and SETTING.get(name, name.replace("-", "_"))
        if setting and setting not in jobs.settings:
            raise Problem(f"{name!r} is no setting of this sweep; there are {', '.join(jobs.settings)}")
        return setting

    varied, wanted = jobs.varied, (chosen(arguments.x), chosen(arguments.y))
    numeric = [name for name in varied if name not in ("cell", "nonlinearity", "weights")]
    numeric.sort(key="scale".__ne__)  # it comes first
    single = "nonlinearity" if arguments.cell == ["rnn"] else "cell"
    x = wanted[0] or next(name for name in (*numeric, "scale", single) if name != wanted[1])
    y = wanted[1] or next(name for name in (*varied, single, "scale") if name != x)
    if x == y:
        raise Problem(f"--x and --y are both {x}")
    rest = [name for name in varied if name not in (x, y)]
    if (count := math.prod(len(jobs.settings[name]) for name in rest)) > MOST_MAPS:
        raise Problem(f"{', '.join(rest)} vary besides {x} and {y}, which makes {count} maps: give fewer values")
    return x, y, rest


def _rows(path: Path) -> int:
    with path.open("rb") as file:
        return max(0, sum(line.endswith(b"\n") for line in file) - 1)

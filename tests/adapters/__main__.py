"""``python -m tests.adapters [PACKAGE ...]``: what our battery finds in other libraries."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from adapters import MODULES, installed, library
from adapters.battery import CASES, edges, findings


def main(packages: list[str]) -> None:
    """Print the findings of each library."""
    for package in packages or ["tinygrad_rnn", *MODULES]:
        if package != "tinygrad_rnn" and installed(package) is None:
            print(f"{package}: not installed, skipped")
            continue
        other = library(package)
        names = [name for name in CASES if name in other.functions]
        found = {name: text for name in names if (text := findings(other, name))}
        points = dict(edges(other))
        print(f"{other.name} {other.version}: {len(names)} functions, {len(found)} with findings; {len(points)} points")
        for where, text in (found | points).items():
            print(f"  {where}: {text}")


main(sys.argv[1:])

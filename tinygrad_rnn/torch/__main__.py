"""``python -m tinygrad_rnn.torch doctor mymodule:make``: the doctor, for those who prefer a shell."""

from __future__ import annotations

import argparse
import pkgutil
import sys

from . import doctor


def main(arguments: list[str] | None = None) -> int:
    """Print the report, and if nothing is wrong the verdict on the gradient; 1 if something is, 2 if it cannot look."""
    parser = argparse.ArgumentParser(prog="python -m tinygrad_rnn.torch")
    parser.add_argument("command", choices=["doctor"], help="look for what is wrong with a model, a batch and a loss")
    parser.add_argument("case", metavar="MODULE:FUNCTION", help="returns model, loss_fn, inputs, targets[, optimizer]")
    parser.add_argument("--lag", type=int, metavar="STEPS", help="how far back the task needs to look")
    options = parser.parse_args(arguments)
    if ":" not in options.case:
        parser.error(f"{options.case!r} is not module:function, such as train:make")
    sys.path.insert(0, "")
    try:
        case = pkgutil.resolve_name(options.case)()
        if not isinstance(case, tuple) or not 4 <= len(case) <= 5:
            raise TypeError("must return (model, loss_fn, inputs, targets) or (..., optimizer)")
        report = doctor(*case)
    except (Exception, SystemExit) as error:  # of somebody's module: 1 is for a finding
        parser.error(f"{options.case}: {type(error).__name__}: {' '.join(str(error).split())}")
    print(report)
    if not report:
        try:
            print(report.flow(lag=options.lag))
        except (TypeError, ValueError) as error:
            print(f"no verdict: {error}")
    return int(bool(report))


if __name__ == "__main__":
    sys.exit(main())

"""``tinygrad-rnn claims``: what a blog post says about gradients, measured, with the verdict that the number gives."""

from __future__ import annotations

import argparse
import shutil
import textwrap
from pathlib import Path
from typing import Any

from .options import Problem, check_writable, whole

COUNT = 21


def add_to(commands: Any) -> None:
    """Declare the command."""
    parser = commands.add_parser(
        "claims",
        help="measure what a blog post says about vanishing gradients",
        description='Go through what "8. Problems in Simple RNNs", a blog post, says about vanishing and exploding '
        "gradients, measure each claim, and print whether it is right, imprecise or wrong, with the number. "
        "Ends with 1 if a verdict is not the one that the documentation states.",
    )
    add = parser.add_argument
    add(
        "claims",
        nargs="*",
        type=whole(1, COUNT),
        metavar="N",
        help=f"only these, 1 to {COUNT}; default: all, some 10 s",
    )
    add("--json", type=Path, metavar="FILE", help="also write what was measured, as JSON")
    add("--out", type=Path, metavar="FILE.md", help="also write the page of the documentation")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Measure and print; 1 if a verdict is not the expected one."""
    from ..diagnose.claims import SOURCE, check_claims, page, tally, to_json
    from ..files import write_whole

    targets = [target for target in (arguments.json, arguments.out) if target is not None]
    if len({target.resolve() for target in targets}) < len(targets):
        raise Problem(f"{targets[0]}: cannot be both --json and --out")
    for target in targets:
        check_writable(target)
    findings = check_claims(arguments.claims or None)
    print(f"{SOURCE}, claim by claim; at initialisation unless it says so\n")
    width = min(shutil.get_terminal_size().columns, 110)
    for finding in findings:
        quote = f"“{finding.claim.quote}”" if finding.claim.quote else "(what the post leaves out)"
        head = f"{finding.claim.number:>2}  {finding.verdict:<10}  "
        print(textwrap.fill(quote, width, initial_indent=head, subsequent_indent=" " * len(head)))
        print(textwrap.fill(finding.says, width, initial_indent=" " * len(head), subsequent_indent=" " * len(head)))
        if not finding.as_expected:
            print(f"{' ' * len(head)}The documentation says: {finding.claim.expected}.")
    print(f"\n{tally(findings)}")
    if arguments.json is not None:
        to_json(findings, arguments.json)
    if arguments.out is not None:
        write_whole(arguments.out, page(findings))
    if targets:
        print(f"wrote {', '.join(map(str, targets))}")
    return 0 if all(finding.as_expected for finding in findings) else 1

"""The optional parts of the package, its extras: what to install when one is missing.

After this file the reader knows why the hint is right before the package is on an index and after: pip writes down
where it installed from (PEP 610), and writes nothing for what came from an index.
"""

from __future__ import annotations


def how_to_install(extra: str) -> str:
    """The command that adds an extra to this installation."""
    # Here, since they take a fifth of the time in which the package is imported.
    import json
    from importlib.metadata import PackageNotFoundError, distribution

    try:
        origin = distribution("tinygrad-rnn").read_text("direct_url.json")
    except PackageNotFoundError:  # imported from the sources as they lie there
        origin = "{}"
    if origin is None:
        return f'pip install "tinygrad-rnn[{extra}]"'
    editable = "--editable " if json.loads(origin).get("dir_info", {}).get("editable") else ""
    return f'pip install {editable}".[{extra}]" in your copy of the repository'

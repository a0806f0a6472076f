"""A page in one file that needs no network: its content, its packed data, its style, and the one script that may run.

After this file the reader knows what the interactive page and the film have in common. Names that users chose reach a
page as escaped text or in its packed data, and its content policy lets no script run but the one that is written here.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
from functools import cache
from html import escape
from importlib.resources import files
from typing import Any, Literal

from .style import Theme


def document(name: Literal["viewer", "film"], title: str, theme: Theme, style: str, body: str, data: Any) -> str:
    """The whole file; `name` is that of its style and its script, `theme` counts if it is dark."""
    script = _script(name)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    table = json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    packed = base64.b64encode(gzip.compress(table.encode("utf-8", "backslashreplace"), 6, mtime=0)).decode()
    return f"""<!DOCTYPE html>
<html lang="en"{' data-theme="dark"' * (theme.name == "dark")}>
<head>
<meta charset="utf-8"/>
<meta http-equiv="Content-Security-Policy" content="{policy}"/>
<meta name="viewport" content="width=device-width, initial-scale=1"/>
<title>{escape(title)}</title>
<style>
{_text("page.css")}{_text(f"{name}.css")}{style}
</style>
</head>
<body>
{body}
<div id="tip" role="tooltip" hidden="hidden"></div>
<script type="application/gzip" id="data">{packed}</script>
<script>{script}</script>
</body>
</html>
"""


@cache
def _script(name: str) -> str:
    """The one script, without its comments."""
    code = "".join(map(_text, ("page.js", f"{name}.js"))).splitlines()
    rows = [row.strip() for row in code if not row.lstrip().startswith("//")]
    return "\n".join(['"use strict";', "(async () => {", *filter(None, rows), "})();"])


@cache
def _text(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")

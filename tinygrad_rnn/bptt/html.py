"""Source with its keywords, numbers and comments set apart, for a notebook."""

from __future__ import annotations

import io
import keyword
import tokenize
from html import escape

_STYLES = {"keyword": "color:#8250df", "comment": "color:#6e7781;font-style:italic", "number": "color:#0550ae"}


def highlighted(source: str) -> str:
    """HTML of Python source, readable on light and on dark.

    Examples
    --------
    >>> highlighted("pass  # done")[-113:]
    '<span style="color:#8250df">pass</span>  <span style="color:#6e7781;font-style:italic"># done</span></code></pre>'
    """
    lines = source.splitlines(True)
    starts = [0]
    for line in lines:
        starts.append(starts[-1] + len(line))
    parts, at = [], 0
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        kind = "comment" if token.type == tokenize.COMMENT else "number" if token.type == tokenize.NUMBER else ""
        kind = "keyword" if token.type == tokenize.NAME and keyword.iskeyword(token.string) else kind
        if kind:
            start, stop = (starts[row - 1] + column for row, column in (token.start, token.end))
            parts += [escape(source[at:start]), f'<span style="{_STYLES[kind]}">{escape(source[start:stop])}</span>']
            at = stop
    return f"<pre><code>{''.join(parts)}{escape(source[at:])}</code></pre>"

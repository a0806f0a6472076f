"""A training run as one HTML file: curves, alarms, and the gradient by time step with a slider over the training.

After this file the reader knows that the page holds its numbers and needs nothing from elsewhere.
"""

from __future__ import annotations

import html
import json
from collections.abc import Sequence
from os import PathLike
from typing import Any

from ..files import write_whole
from ..norms import json_ready

_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>Training, watched</title>
<style>body{font:15px system-ui;margin:2em;max-width:52em;color-scheme:light dark}svg{width:100%;height:12em}
path{fill:none;stroke:#0072b2;stroke-width:2}text{font-size:12px;fill:currentColor}input{width:100%}</style>
<h1>Training, watched</h1><ul>ALARMS</ul><div id="film"></div><div id="curves"></div>
<script>const records = RECORDS;
const log = v => typeof v === "number" && v > 0 ? Math.log10(v) : null;
function curve(title, points, range = points) {
  const [good, all] = [points, range].map(l => l.filter(p => p[1] !== null));
  const [xs, ys] = [0, 1].map(k => all.map(p => p[k]));
  if (!good.length) return `<h3>${title}</h3><p>nothing finite and above zero</p>`;
  const [a, b, c, d] = [Math.min(...xs), Math.max(...xs), Math.min(...ys), Math.max(...ys)];
  const at = p => `${50 + 540 * (p[0] - a) / (b - a || 1)},${130 - 120 * (p[1] - c) / (d - c || 1)}`;
  const marks = [[0, 15, d.toPrecision(3)], [0, 134, c.toPrecision(3)], [50, 150, a], [570, 150, b]];
  const text = marks.map(m => `<text x="${m[0]}" y="${m[1]}">${m[2]}</text>`).join("");
  return `<h3>${title}</h3><svg viewBox="0 0 600 155"><path d="M${good.map(at).join("L")}"/>${text}</svg>`;
}
const keys = [...new Set(records.flatMap(Object.keys))].filter(k => k !== "step");
const shown = keys.filter(k => !k.endsWith("/by step")).map(k => {
  const logs = k === "gradient" || k.endsWith("/update"), value = v => logs ? log(v) : typeof v === "number" ? v : null;
  const points = records.filter(r => k in r).map(r => [r.step, value(r[k])]);
  return curve((logs ? "log10 of " : "") + k + ", by update", points);
});
document.getElementById("curves").innerHTML = shown.join("");
const film = document.getElementById("film");
for (const k of keys.filter(k => k.endsWith("/by step"))) {
  const frames = records.filter(r => k in r), [box, slider] = ["div", "input"].map(n => document.createElement(n));
  Object.assign(slider, {type: "range", min: 0, max: frames.length - 1, value: 0, ariaLabel: k});
  const lines = frames.map(frame => frame[k].map((v, t) => [t + 1, log(v)]));
  slider.oninput = () => {
    const title = `log10 of ‖∂L/∂x_t‖ by t, ${k.slice(0, -8)}, update ${frames[slider.value].step}`;
    box.innerHTML = curve(title, lines[slider.value], lines.flat());
  };
  film.append(box, slider);
  slider.oninput();
}
</script></html>
"""


def training_page(path: str | PathLike[str], records: Sequence[dict[str, Any]], alarms: Sequence[str]) -> None:
    """Write the page, whole or not at all.

    Parameters
    ----------
    path : path
    records : sequence of dict
        As `watch` makes them.
    alarms : sequence of str
    """
    data = json.dumps([{html.escape(key): json_ready(value) for key, value in record.items()} for record in records])
    listed = "".join(f"<li>{html.escape(alarm)}</li>" for alarm in alarms)
    # Each is put in its place in the template, so that neither can stand for the other.
    head, tail = _PAGE.split("RECORDS")
    write_whole(path, head.replace("ALARMS", listed) + data.replace("<", "\\u003c") + tail)

"""How a gradient looks: colour, width, line and number of an edge, and the shape of a node.

After this file the reader knows the visual code of a picture. A head points the way its number goes. Colour and width
follow the logarithm of the gradient on a scale of whole decades that is printed; an exact zero, an underflow, a NaN, an
explosion and "needs no gradient" each look like nothing else, also without colour.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from .. import arguments
from ..files import printable
from ..graph.contributions import Whole
from ..graph.parts import Array, Edge, Node
from ..norms import Norm, State

CLASSES, REDS, INKS = 24, 8, 6
"""Colours of the ramp, of the red one above `EXPLODING`, of lines: so few that two of them can be told apart."""

Heads = Literal["gradient", "data"]

EXPLODING = 1e3
"""Above this an edge is drawn as exploding (unless an explicit scale reaches higher)."""

LABEL_SIZE = 11.0
MAX_LABELS = 400
"""With more edges than this, ``labels="auto"`` leaves the numbers to the tooltips."""
MAX_PLAIN = 1_000
"""Edges of a graph, or of one time step, that the engine is asked to place: its time grows faster than their square."""

SMALLEST_NORMAL = "<1e−308"
_SUBSCRIPTS = str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")
# The bundled fonts of the default engine have no glyph for these.
_SAFE_GLYPHS = str.maketrans({"⊙": "×", "⊗": "×", "⊕": "+", "∘": "·", "∗": "*", "⋯": "…", "⊤": "ᵀ"})


COLOURS = {
    "background": ("#ffffff", "#0d1117"),
    "panel": ("#f6f8fa", "#161b22"),
    "frame": ("#d0d7de", "#30363d"),
    "ink": ("#1f2328", "#e6edf3"),
    "muted": ("#59636e", "#9aa4af"),
    "none": ("#848d97", "#7d8590"),
    "broken": ("#d1242f", "#ff4d4f"),
    "positive": ("#0b57a4", "#6cb2ff"),
    "negative": ("#b5470b", "#ff9d5c"),
    "fill value": ("#eaf1fb", "#182a44"),
    "line value": ("#5b7fb5", "#6c97d6"),
    "fill op": ("#ffffff", "#21262d"),
    "line op": ("#8c959f", "#8b949e"),
    "fill parameter": ("#fff3dc", "#33290f"),
    "line parameter": ("#bf8700", "#c99a2e"),
    "fill input": ("#e8f5ec", "#142d1f"),
    "line input": ("#4c9a6a", "#5aa878"),
    "fill constant": ("#ffffff", "#161b22"),
    "line constant": ("#b6bec7", "#5c6570"),
    "fill loss": ("#fdebf0", "#3a1a27"),
    "line loss": ("#b2476a", "#d8708f"),
}
"""The colours that a mark names, on a light page and on a dark one."""

# Those that are numbered: ``r0`` is the first one of the ramp.
RAMPS = {
    "r": (  # from weak to strong in even steps of lightness, with hue as a second channel (Ottosson's OKLCH, 2020)
        "9b8a16 8c8919 7c881f 6b8727 598530 458338 2d8041 107c4a 057654 0e6f5a 11695d 0d635e "
        "0f5d5f 06585f 02535f 034d5f 07475e 04415e 003b61 043462 032a6d 142169 1d1963 23105c",
        "6862b4 626bbc 5a73c2 517cc7 4785cb 3a8ecd 2b97ce 179fce 16a7ca 08afc8 0ab6c4 1bbdc0 "
        "1dc5bb 37cbb5 4dd0ae 63d5a7 77daa0 8cdd99 9fe092 b3e38c c6e587 d8e784 eae983 fbea84",
    ),
    "e": (  # above the ramp: the larger, the darker on a light page, the lighter on a dark one
        "d93f5a c7334d b42740 a21a33 900a26 7c001c 660415 52020d",
        "d23855 db475d e35666 ec636e f47177 fc7e81 fd908f fda19e",
    ),
    # of lines
    "l": ("0b57a4 b5470b 147a4a 8a3ea0 5c6570 a0114f", "6cb2ff ff9d5c 5fcf94 d79aef 9aa4af ff7eb6"),
}


@dataclass(frozen=True)
class Theme:
    """The colours of one background, by the names that marks have for them."""

    name: str
    colours: Mapping[str, str]

    def colour(self, name: str) -> str:
        """The colour that a mark names: ``ink``, ``fill value``, ``r5``."""
        return self.colours[name]


def _theme(name: str, which: int) -> Theme:
    ramps = {f"{kind}{k}": f"#{code}" for kind, of in RAMPS.items() for k, code in enumerate(of[which].split())}
    return Theme(name, ramps | {colour: pair[which] for colour, pair in COLOURS.items()})


LIGHT, DARK = _theme("light", 0), _theme("dark", 1)
THEMES = {theme.name: theme for theme in (LIGHT, DARK)}


@dataclass(frozen=True)
class Scale:
    """The range of magnitudes that the colours span; weaker ones keep the palest colour, and their true number.

    Attributes
    ----------
    lo, hi : float
        Magnitudes at the pale and at the strong end.
    top : float
        The largest magnitude drawn, if it is known: where it lies above 1000, the red ramp ends at it.

    Raises
    ------
    ValueError
        Unless 0 < lo < hi, both finite.
    """

    lo: float = 1e-12
    hi: float = 1.0
    top: float = field(default=0.0, compare=False)

    def __post_init__(self) -> None:
        if not (0.0 < self.lo < self.hi < math.inf):
            raise ValueError(f"scale must be (lo, hi) with 0 < lo < hi, both finite; got ({self.lo!r}, {self.hi!r})")

    @property
    def decades(self) -> tuple[float, float]:
        """Log10 of both ends."""
        return math.log10(self.lo), math.log10(self.hi)

    @property
    def exploding(self) -> float:
        """The magnitude above which an edge is drawn as exploding."""
        return max(EXPLODING, self.hi)

    def fraction(self, magnitude: float) -> float:
        """Where a magnitude lies on the scale: 0 at (or below) the weak end, 1 at (or above) the strong one."""
        if magnitude <= 0.0:
            return 0.0
        lo, hi = self.decades
        return min(1.0, max(0.0, (math.log10(magnitude) - lo) / (hi - lo)))

    def colour(self, magnitude: float) -> str:
        """The name of a magnitude's colour: one of `CLASSES`, or one of `REDS` above the scale."""
        if magnitude <= self.exploding:
            return f"r{round(self.fraction(magnitude) * (CLASSES - 1))}"
        start = math.log10(self.exploding)
        span = max(2.0, math.log10(max(self.top, self.exploding)) - start)
        return f"e{min(REDS - 1, int(REDS * (math.log10(min(magnitude, 1e308)) - start) / span))}"


@dataclass(frozen=True)
class Options:
    """What the caller chose about the looks."""

    theme: Theme
    scale: Scale
    norm: Norm = "l2"
    labels: bool = True
    heads: Heads = "gradient"
    page: tuple[float, float] | None = None


def scale_of(spec: Any, magnitudes: Sequence[float], most: int = 12) -> Scale:
    """Read the ``scale=`` argument: None (fitted), ``"fixed"`` (1e-12 to 1), ``(lo, hi)``, or a `Scale`.

    A fitted one spans whole decades: from the largest magnitude (at least 1, at most 1000) down to the smallest, at
    least 4 and at most `most`.
    """
    if isinstance(spec, Scale):
        return spec
    top = max((m for m in magnitudes if m < math.inf), default=1.0)
    if isinstance(spec, str) and spec == "fixed":
        return Scale(top=top)
    if spec is None:
        logs = [math.log10(m) for m in magnitudes if 0.0 < m < math.inf]
        hi = min(3, max(0, math.ceil(max(logs, default=0.0) - 0.02)))
        lo = max(hi - most, min(hi - 4, math.floor(min(logs, default=0.0) + 1e-9)))
        return Scale(10.0**lo, 10.0**hi, top)
    try:
        lo, hi = spec
    except (TypeError, ValueError):
        raise arguments.refusal("scale", spec, 'None, "fixed", a Scale, or a pair (lo, hi)') from None
    return Scale(arguments.number("scale", lo), arguments.number("scale", hi), top)


MINUS = "−"


def number(magnitude: float) -> str:
    """A number as two digits that fit on an edge: ``0.21``, ``0.0031``, ``12``, ``3.2e−5``."""
    if math.isnan(magnitude):
        return "NaN"
    if math.isinf(magnitude):
        return "inf"
    if magnitude == 0.0:
        return "0"
    size = abs(magnitude)
    if not 0.000995 <= size < 999.5:
        mantissa, exponent = f"{magnitude:.1e}".split("e")
        return f"{mantissa}e{int(exponent)}".replace("-", MINUS)
    digits = 0 if size >= 9.95 else 1 if size >= 0.995 else 2 if size >= 0.0995 else 3 if size >= 0.00995 else 4
    return f"{magnitude:.{digits}f}".replace("-", MINUS)


def narrow(text: str, room: float) -> str:
    """A number for a room of this width: rather one digit, ``3e−11`` or ``0.03``, than two numbers that touch."""
    wide = text_width(text, LABEL_SIZE) > room
    return re.sub(r"^(0\.0+[1-9])\d$", r"\1", re.sub(r"\.\de", "e", text)) if wide else text


def power(exponent: float) -> str:
    """A decade: ``1e−6``, ``0.1``, ``1``."""
    value = 10.0**exponent
    return f"{value:g}" if -4 < exponent < 4 else number(value).replace(".0e", "e")


class EdgeStyle(NamedTuple):
    """Everything that the drawing of an edge depends on but its place; `color` is the name of one in a `Theme`.

    A head of kind ``back`` is filled and stands at the operand, as does a ``bar``: they say which way the number goes.
    ``open`` stands at the consumer: only data flow there. ``forward`` is ``back`` turned round; ``none`` is no head.
    """

    color: str
    width: float
    line: str
    label: str
    head: Literal["back", "bar", "open", "forward", "none"]
    bold: bool = False
    double: bool = False


def edge_style(magnitude: float | None, state: State, scale: Scale, heads: Heads = "gradient") -> EdgeStyle:
    """The look of an edge that carries a contribution of this magnitude and state.

    One table for pictures and legend. `magnitude` is ignored where the state says it all.
    """
    head: Literal["back", "forward"] = "back" if heads == "gradient" else "forward"
    if state == "none" or magnitude is None:
        return EdgeStyle("none", 1.0, "dashed", "", "open")
    if state in ("nan", "inf"):
        return EdgeStyle("broken", 1.6, "solid", "NaN" if state == "nan" else "inf", head, bold=True, double=True)
    if state == "zero":
        return EdgeStyle("muted", 1.6, "dotted", "0", "bar")
    if state == "underflow":
        return EdgeStyle("r0", 1.6, "dotted", SMALLEST_NORMAL, head)
    if magnitude > scale.exploding:
        label = ">1e308" if math.isinf(magnitude) else number(magnitude)
        return EdgeStyle(scale.colour(magnitude), 4.5, "solid", f"▲ {label}", head, bold=True)
    width = round(1.1 + 2.6 * scale.fraction(magnitude), 2)
    return EdgeStyle(scale.colour(magnitude), width, "solid", number(magnitude), head)


def clean(text: str, limit: int = 24) -> str:
    """A name as printable text of bounded length: XML has no place for control characters, a box none for a novel."""
    text = (text if text.isprintable() else printable(text)).translate(_SAFE_GLYPHS)  # the first is quicker
    return text if len(text) <= limit else text[: limit - 1] + "…"


def subscript(text: str) -> str:
    """Digits lowered: ``h0`` -> ``h₀``."""
    return text.translate(_SUBSCRIPTS)


def text_width(text: str, size: float) -> float:
    """Width in points of a line of Helvetica, near enough to size a box with."""
    units = 0.0
    for c in text:
        wide = 0.36 if c in "₀₁₂₃₄₅₆₇₈₉" else 0.86 if c in "mwMW@%‖" else 0.57
        units += 0.556 if c in "0123456789−+" else 0.28 if c in "iljtfrI.,:;|'!()[] " else wide
    return units * size


class Look(NamedTuple):
    """The shape of a node: its role (which picks the colours), size in points, and one or two lines of text."""

    role: str
    shape: str
    width: float
    height: float
    big: str
    small: str = ""
    fontsize: float = 10.0


def _box(role: str, big: str, small: str, base: str, extra: float = 10.0, minimum: float = 30.0) -> Look:
    # Sized by the name without its time step, so that all cells are identical.
    width = max(minimum, text_width(base, 11.0) + extra, text_width(small, 11.0) + 8.0)
    return Look(role, "box", math.ceil(width), 34.0, big, small, fontsize=11.0)


def look(node: Node) -> Look:
    """How a node is drawn."""
    step = (node.step or "")[2:]
    name = clean(node.name) if node.name is not None else None
    symbol = clean(node.symbol or node.op or "", 14)
    if node.kind == "loss":
        box = _box("loss", name or "L", symbol if name != symbol else "", name or "L", minimum=48.0)
        # Its second border lies outside of a node's nominal size.
        return box._replace(height=40.0)
    if node.members and node.scope.rpartition("/")[2] in (node.step, node.scope):
        return _step_look(node, name or "", step)
    if node.members and name is None:
        tail = clean(node.scope.rpartition("/")[2])
        return _box("value", tail, "", tail)
    if node.kind in ("parameter", "input"):
        text = _leaf_text(node, short(name) if node.kind == "parameter" else name, step)
        # Room for three digits, whatever the number of the step: all cells are identical.
        base = f"{undated(text)}₀₀₀" if step and name else text
        width = max(26.0, math.ceil(text_width(base, 11.0) + 8.0))
        return Look(node.kind, "box", width, 20.0, text, fontsize=11.0)
    if node.kind == "constant":
        text = name or (
            number_text(node.value)
            if node.value is not None and node.value.size == 1
            else "×".join(map(str, node.shape))
        )
        return Look("constant", "box", max(22.0, math.ceil(text_width(text, 11.0) + 8.0)), 18.0, text, fontsize=11.0)
    if name is not None:  # of a gate, whose own name is in the tooltip, too
        return _box("value", name + subscript(step), symbol if symbol != name else "", name + "₀₀")
    if node.op == "getitem":
        return Look("op", "box", 22.0, 18.0, "[ ]", fontsize=11.0)
    if len(symbol) <= 2:
        return Look("op", "ellipse", 24.0, 24.0, symbol, fontsize=11.0)
    width = max(30.0, text_width(symbol, 11.0) + 10.0)
    return Look("op", "pill", math.ceil(width), 24.0, symbol, fontsize=11.0)


def tensor_prefix(edge: Edge, source: Node) -> str:
    """The name of the tensor, where one box hands on several: ``c 0.21``."""
    several = source.members and "," in (source.name or "")
    return f"{clean(edge.tensor.name, 8)} " if several and edge.tensor is not None and edge.tensor.name else ""


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Told(Whole):
    """A contribution of which only the size is known, and the room that its number needs where that is not its own."""

    shape: tuple[int, ...]
    room: float = 0.0

    def norm(self, norm: Norm) -> float:
        """Its size, by the norm that it was taken with."""
        return abs(float(self.kept[0]))


_STANDARD = Scale()


def number_room(edge: Edge, source: Node, norm: Norm) -> float:
    """The room that the number of an edge needs, with a margin; 0 without one. In a film, in any of its frames."""
    style = edge_style(edge.size(norm), edge.state, _STANDARD)
    text = tensor_prefix(edge, source) + style.label
    own = text_width(text, LABEL_SIZE) * (1.06 if style.bold else 1.0) + 4.0 if style.label else 0.0
    return max(own, getattr(edge.carried, "room", 0.0))


def short(name: str | None) -> str | None:
    """A parameter's name as the textbook has it: ``weight_ih`` is W_ih, ``decoder.bias_hh`` is decoder.b_hh."""
    owner, dot, own = (name or "").rpartition(".")
    for long, letter in (("weight_", "W_"), ("bias_", "b_")):
        if own.startswith(long) and len(own) > len(long):
            return owner + dot + letter + own[len(long) :]
    return name


def undated(name: str) -> str:
    """A name without the number at its end: x₁ and x₂ of two time steps are the same thing."""
    return name.rstrip("0123456789₀₁₂₃₄₅₆₇₈₉") or name


def _leaf_text(node: Node, name: str | None, step: str) -> str:
    if name is None:
        return "×".join(map(str, node.shape)) or "scalar"
    if step:
        return name if name.endswith(step) else name + subscript(step)
    return name[:-1] + subscript(name[-1]) if len(name) == 2 and name[1].isdigit() else name


def _step_look(node: Node, name: str, step: str) -> Look:
    """A whole step, with room for an edge per state."""
    width, height = max(58.0, math.ceil(text_width(name, 11.0) + 12.0)), min(206.0, 50.0 + 52.0 * name.count(", "))
    return Look("value", "box", width, height, f"t = {step}" if step else clean(node.scope), name, fontsize=12.0)


def number_text(value: Array) -> str:
    """One element in three digits."""
    return f"{value.reshape(-1)[0].item():.3g}"

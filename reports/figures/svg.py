"""Convert a matplotlib figure to SVG that is safe to embed in the page.

matplotlib writes colours and fonts into ``style`` attributes, which the page's Content-Security-Policy forbids, and ids
that would clash between charts. ``to_svg`` rebuilds the tree from an allowlist of elements and attributes, turns each
colour into a class of the style sheet (so that charts follow the light and dark scheme), and prefixes ids. Text stays
text. The same figure gives the same bytes.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

from markupsafe import Markup, escape

from reports.escape import visible

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Colours that stand for classes of the style sheet: .k-NAME strokes and .f-NAME fills with var(--NAME).
INK, MUTED, GRID, PAPER = "#010101", "#020202", "#030303", "#040404"
BETTER, WORSE, UNDECIDED = "#050505", "#060606", "#070707"
SERIES = ("#080801", "#080802", "#080803", "#080804", "#080805", "#080806", "#080807", "#080808")
_NAMES = {
    INK: "ink",
    MUTED: "muted",
    GRID: "grid",
    PAPER: "paper",
    BETTER: "better",
    WORSE: "worse",
    UNDECIDED: "undecided",
    **{colour: f"s{i + 1}" for i, colour in enumerate(SERIES)},
}
MARKERS = ("o", "s", "D", "^", "v", "P", "X", "p")

_SETTINGS: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "report",
    "text.parse_math": False,
    "font.size": 11.0,
    "font.family": ["DejaVu Sans"],
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    **{f"{axis}.{kind}.size": 0.0 for axis in ("xtick", "ytick") for kind in ("major", "minor")},
    "xtick.bottom": False,
    "ytick.left": False,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "legend.frameon": False,
    "legend.fontsize": 10.0,
    "legend.handlelength": 1.8,
    "axes.labelsize": 10.5,
    "xtick.labelsize": 10.0,
    "ytick.labelsize": 10.0,
    "lines.linewidth": 1.8,
    "lines.markersize": 6.0,
    "axes.unicode_minus": True,
    "path.simplify": True,
    "axes.axisbelow": True,
}

_SVG = "{http://www.w3.org/2000/svg}"
_HREF = "{http://www.w3.org/1999/xlink}href"
_ELEMENTS = {"svg", "g", "defs", "clipPath", "path", "use", "rect", "text", "tspan"}
_ATTRIBUTES = {"d", "x", "y", "width", "height", "transform", "viewBox"}
_NUMERIC_STYLES = {"stroke-width", "stroke-dasharray", "stroke-dashoffset", "opacity", "fill-opacity", "stroke-opacity"}
_NUMBER = re.compile(r"-?\d+\.\d{2,}(?:e-?\d+)?")
_FONT = re.compile(r"(?:(bold|\d{3})\s+)?([\d.]+)px")


@contextmanager
def drawing() -> Iterator[None]:
    """Apply the page's matplotlib settings within the context."""
    import matplotlib

    with matplotlib.rc_context(_SETTINGS), warnings.catch_warnings():
        # Text is measured with a font that lacks many scripts; the browser uses its own.
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        yield


def to_svg(drawn: Figure, prefix: str, title: str, description: str) -> Markup:
    """Return the figure as SVG with an accessible name and description; ``prefix`` keeps its ids apart."""
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    buffer = io.StringIO()
    canvas: Any = FigureCanvasSVG(drawn)
    canvas.print_svg(buffer, metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    root = ElementTree.fromstring(buffer.getvalue())
    used = set(re.findall(r"(?:url\(#|href=\"#)([^)\"]+)", buffer.getvalue()))
    out: list[str] = []
    _write(root, prefix, used, out)
    body = "".join(out)
    head = f'<title id="{prefix}-t">{escape(visible(title))}</title>'
    head += f'<desc id="{prefix}-d">{escape(visible(description))}</desc>'
    opening, rest = body.split(">", 1)
    opening += f' role="img" aria-labelledby="{prefix}-t" aria-describedby="{prefix}-d"'
    return Markup(f"{opening}>{head}{rest}")


def _write(element: ElementTree.Element, prefix: str, used: set[str], out: list[str]) -> None:
    name = element.tag.removeprefix(_SVG)
    if name not in _ELEMENTS:
        return
    attributes = _attributes(element, name, prefix, used)
    if name == "path" and attributes.get("fill") == "none" and "class" not in attributes:
        return  # an outline without a colour
    inner: list[str] = []
    for child in element:
        _write(child, prefix, used, inner)
    text = str(escape(element.text)) if name in {"text", "tspan"} and element.text else ""
    if name == "g" and not attributes:
        out.extend(inner)  # a group without attributes
        return
    if name in {"g", "defs"} and not inner:
        return
    head = "".join(f' {key}="{escape(value)}"' for key, value in attributes.items())
    if inner or text:
        out.append(f"<{name}{head}>{text}")
        out.extend(inner)
        out.append(f"</{name}>")
    else:
        out.append(f"<{name}{head}/>")


def _attributes(element: ElementTree.Element, name: str, prefix: str, used: set[str]) -> dict[str, str]:
    kept: dict[str, str] = {}
    for key, value in element.attrib.items():
        if key == "style":
            kept |= _from_style(value, name)
        elif key == _HREF and value.startswith("#"):
            kept["href"] = f"#{prefix}-{value[1:]}"
        elif key == "id" and value in used:
            kept["id"] = f"{prefix}-{value}"
        elif key == "clip-path":
            kept[key] = value.replace("url(#", f"url(#{prefix}-")
        elif key in _ATTRIBUTES and not value.startswith("rotate(-0 "):
            kept[key] = _shorter(value)
    if name == "svg":
        kept = {key: value for key, value in kept.items() if key not in {"width", "height"}}  # the style sheet's
        kept = {"class": "chart", "xmlns": "http://www.w3.org/2000/svg", **kept}
    return kept


def _from_style(style: str, name: str) -> dict[str, str]:
    """Turn a style attribute into presentation attributes and classes."""
    kept: dict[str, str] = {}
    classes: list[str] = []
    for declaration in style.split(";"):
        key, _, value = (part.strip() for part in declaration.partition(":"))
        if key in {"fill", "stroke"}:
            colour = value.lower()
            if colour in _NAMES:
                classes.append(f"{key[0] if key == 'fill' else 'k'}-{_NAMES[colour]}")
            elif colour == "none":
                kept[key] = "none"
        elif key in _NUMERIC_STYLES:
            kept[key] = _shorter(value)
        elif key == "text-anchor":
            kept[key] = value
        elif key in {"font", "font-size"} and (match := _FONT.search(value)):
            kept["font-size"] = match[2]
            if match[1]:
                kept["font-weight"] = match[1]
        elif key == "font-weight":
            kept[key] = value
    if name in {"text", "tspan"} and not any(part.startswith("f-") for part in classes):
        classes.append("f-ink")
    if classes:
        kept["class"] = " ".join(classes)
    return kept


def _shorter(value: str) -> str:
    """Round coordinates to a tenth of a pixel: more is invisible and makes the page three times as large."""
    return _NUMBER.sub(lambda match: f"{float(match[0]):.1f}".removesuffix(".0"), " ".join(value.split()))

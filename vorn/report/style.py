"""How figures look, as files and inside the page: colours that colour-blind readers tell apart, markers, dashes."""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from html import escape
from typing import Any

import matplotlib

# Okabe and Ito's colours, distinct for every common kind of colour blindness. Black is left to the reference, and grey
# stands for their yellow, which is hard to see on white.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#666666")
MARKERS = "osD^vPX*<>"
DASHES = ("-", "--", ":")  # the next round of colours
INK, PAPER, GRID, BAND = "#000000", "#ffffff", "#ebebeb", "#d9d9d9"
SCALE = "cividis"  # of heat maps: also grey prints in the same order
DIVERGING = "RdBu"  # of differences, red below 0; nobody with a common colour blindness takes one side for the other
DARK, LIGHT = "#101010", "#fafafa"  # of numbers on a coloured field, whatever the page's scheme

# Inside the page each of these colours is a variable of its style sheet, which has values for light and dark.
_VARIABLES = {INK: "ink", PAPER: "paper", GRID: "grid", BAND: "band"} | {
    colour: f"c{index}" for index, colour in enumerate(COLOURS)
}
_FONTS = "'DejaVu Sans', Verdana, sans-serif"  # of the same width, so that text stays where it was laid out
_STYLE = {
    "text.parse_math": False,
    "svg.hashsalt": "vorn",
    "svg.fonttype": "none",  # text stays text: it can be copied, and takes a fraction of the space
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
}


@contextmanager
def drawing() -> Iterator[None]:
    """The style in which figures are built and saved."""
    with matplotlib.rc_context(_STYLE):
        yield


def text_inches(labels: Iterable[str]) -> float:
    """Width that the longest of these labels needs in a figure of the house's font."""
    return 0.082 * max(map(len, labels), default=0)


def look(index: int) -> dict[str, str]:
    """Colour, marker and dashes of the line with this number."""
    dashes = DASHES[index // len(COLOURS) % len(DASHES)]
    return {"color": COLOURS[index % len(COLOURS)], "marker": MARKERS[index % len(MARKERS)], "ls": dashes}


def images(figure: Any) -> dict[str, bytes]:
    """The matplotlib figure as the bytes of a file, by format: "png" and "svg"."""
    found = {}
    for form in ("png", "svg"):
        image = io.BytesIO()
        figure.savefig(image, format=form, dpi=150, metadata={"Date": None} if form == "svg" else None)
        found[form] = image.getvalue()
        figure.set_layout_engine("none")  # laid out already, which takes longer than drawing
    return found


def inline(svg: bytes, name: str, label: str) -> str:
    """An SVG file of `images` as an element of the page.

    Args:
        svg: the file.
        name: unique in the page; put before ids, which several figures share.
        label: what a screen reader says.
    Its colours become the page's variables, its fonts the page's, and its width that of its place.
    """
    text = svg.decode()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>", "", text, flags=re.DOTALL)
    used = set(re.findall(r"[\"(]#([\w.-]+)", text))
    text = re.sub(r' id="([^"]*)"', lambda found: f' id="{name}-{found[1]}"' if found[1] in used else "", text)
    text = re.sub(r'(url\(|href=")#', rf"\1#{name}-", text)
    text = re.sub(r"font-family: [^;\"]+", f"font-family: {_FONTS}", text)
    text = re.sub(r"#[0-9a-f]{6}\b", lambda found: _variable(found[0]), text)
    text = re.sub(r"\s+", " ", text)
    return re.sub(r"<svg [^>]*>", lambda found: _opening(found[0], label), text, count=1)


def _opening(tag: str, label: str) -> str:
    """The root element's tag as wide as its place, but not wider than it was drawn."""
    box = re.search(r'viewBox="[^"]*"', tag)
    size = re.search(r'width="([\d.]+)pt"', tag)
    if box is None or size is None:
        raise ValueError(f"an SVG file without viewBox or width in points: {tag}")
    pixels = float(size[1]) * 4 / 3
    return f'<svg {box[0]} role="img" aria-label="{escape(label, quote=True)}" style="--own: {pixels:.0f}px">'


def _variable(colour: str) -> str:
    return f"var(--{_VARIABLES[colour]})" if colour in _VARIABLES else colour

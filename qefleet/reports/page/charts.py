"""Bar charts as SVG inside a page: drawn by Vega-Lite, in the page's own colours.

Vega runs in this process without a network. Names in a chart are untrusted: the drawing is parsed and written
anew from the few elements and attributes that a static chart needs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal
from xml.etree.ElementTree import Element, fromstring, tostring

from qefleet.reports.text import for_page, shortened

Colour = Literal["accent", "good", "bad", "muted"]

_VARIABLES = {
    "#000001": "var(--ink)",
    "#000002": "var(--line)",
    "#000003": "var(--accent)",
    "#000004": "var(--good)",
    "#000005": "var(--bad)",
    "#000006": "var(--muted)",
}
"""What stands for the page's colours while Vega draws; no other colour is in a chart."""
_INK, _LINE = "#000001", "#000002"
_COLOURS: dict[Colour, str] = {
    "accent": "#000003",
    "good": "#000004",
    "bad": "#000005",
    "muted": "#000006",
}
_ELEMENTS = frozenset({"g", "path", "rect", "line", "text"})
_ATTRIBUTES = frozenset({
    *("width", "height", "viewBox", "transform", "d", "x", "y", "x1", "y1", "x2", "y2"),
    *("fill", "stroke", "stroke-width", "opacity", "fill-opacity", "stroke-opacity", "stroke-dasharray"),
    *("text-anchor", "font-family", "font-size", "font-weight", "stroke-miterlimit"),
})  # fmt: skip
_SVG = "{http://www.w3.org/2000/svg}"
_FONT = 12
BESIDE = 1.16
"""Room for what stands beside the longest bar, as a multiple of it."""


@dataclass(frozen=True, kw_only=True)
class Bar:
    """One bar of a chart."""

    name: str
    start: float = 0.0
    end: float
    note: str
    """What stands beside it."""
    colour: Colour = "accent"
    mark: float | None = None
    """Another value, shown as a tick."""


def bar_chart(bars: Sequence[Bar], *, label: str, most: float, ticks: Sequence[float] | None = None) -> str:
    """Draw horizontal bars, twice: for wide pages, and for narrow ones with each name above its bar.

    Args:
        bars: From top to bottom.
        label: What the chart shows, for those who don't see it.
        most: Upper end of the axis.
        ticks: Values on the axis; chosen by Vega without them.

    Returns:
        Two SVG elements of the classes `wide` and `narrow`.
    """
    import vl_convert  # noqa: PLC0415 - it starts a JavaScript engine: only who draws waits for it

    drawn: list[str] = []
    for kind in ("wide", "narrow"):
        spec = _spec(bars, most=most, ticks=ticks, narrow=kind == "narrow")
        drawn.append(_clean(vl_convert.vegalite_to_svg(spec, allowed_base_urls=[]), label=label, kind=kind))
    return "".join(drawn)


def _spec(bars: Sequence[Bar], *, most: float, ticks: Sequence[float] | None, narrow: bool) -> dict[str, Any]:
    limit = 40 if narrow else 36
    rows = [
        {
            "row": number,
            "name": shortened(for_page(bar.name), limit),
            "start": bar.start,
            # A bar of no length would not be seen.
            "end": max(bar.end, bar.start + most / 300),
            "note": for_page(bar.note),
            "colour": _COLOURS[bar.colour],
            "mark": bar.mark,
        }
        for number, bar in enumerate(bars)
    ]
    axis = {"grid": True, "domain": False, "ticks": False, "title": None, "tickCount": 4 if narrow else 8}
    x = {
        "field": "start",
        "type": "quantitative",
        "scale": {"domain": [0, most], "nice": False},
        "axis": axis | ({"values": [*ticks]} if ticks else {}),
    }
    y = {"field": "row", "type": "ordinal", "axis": None, "scale": {"paddingInner": 0.3, "paddingOuter": 0.2}}
    # Where it is narrow, a name stands above its bar, which takes the lower half of its row.
    below = {"yOffset": 8} if narrow else {}
    text = {"type": "text", "baseline": "middle", "fontSize": _FONT, "color": _INK}
    layers: list[dict[str, Any]] = [
        {
            "mark": {"type": "bar", "cornerRadius": 2, **({"height": 12} | below if narrow else {})},
            "encoding": {
                "x": x,
                "x2": {"field": "end"},
                "y": y,
                "color": {"field": "colour", "type": "nominal", "scale": None},
            },
        },
        {
            "transform": [{"filter": "isValid(datum.mark)"}],
            "mark": {"type": "tick", "thickness": 2, "color": _INK, "size": 16, **below},
            "encoding": {"x": x | {"field": "mark"}, "y": y},
        },
        {
            "mark": text | {"align": "left", "dx": 6} | below,
            "encoding": {"x": x | {"field": "end"}, "y": y, "text": {"field": "note"}},
        },
        {
            "mark": text | ({"align": "left", "yOffset": -9} if narrow else {"align": "right", "dx": -8}),
            "encoding": {"x": {"value": 0}, "y": y, "text": {"field": "name"}},
        },
    ]
    return {
        "$schema": "https://vega.github.io/schema/vega-lite/v6.json",
        "data": {"values": rows},
        "width": 280 if narrow else 640,
        "height": {"step": 38 if narrow else 26},
        "background": None,
        "layer": layers,
        "config": {
            "aria": False,
            "view": {"stroke": None},
            "axis": {"gridColor": _LINE, "labelColor": _INK, "labelFontSize": _FONT - 1},
            "font": "sans-serif",
        },
    }


def _clean(svg: str, *, label: str, kind: str) -> str:
    root = fromstring(svg)  # noqa: S314 - Vega wrote it, and expat bounds the growth of entities and fetches none
    view = root.get("viewBox", "0 0 1 1")
    clean = Element(
        "svg",
        {"class": f"chart {kind}", "role": "img", "aria-label": label, "viewBox": view}
        | {"width": root.get("width", "1"), "height": root.get("height", "1")},
    )
    for child in root:
        _copy(child, clean)
    return tostring(clean, encoding="unicode")


def _copy(element: Element, parent: Element) -> None:
    tag = element.tag.removeprefix(_SVG)
    if tag not in _ELEMENTS or element.get("display") == "none":
        return
    kept = {
        name: _VARIABLES.get(value, value) for name, value in element.attrib.items() if name in _ATTRIBUTES
    }
    copy = Element(tag, kept)
    copy.text = element.text
    parent.append(copy)
    for child in element:
        _copy(child, copy)


def most(bars: Sequence[Bar]) -> float:
    """The upper end of an axis that leaves room beside the longest bar."""
    return max((bar.end for bar in bars), default=0.0) * BESIDE or 1.0

"""The learning curve: mean rewards over time, as text or as a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from itertools import pairwise
from statistics import mean
from typing import Any

_BARS = " ▁▂▃▄▅▆▇█"
_COLOURS = ("#0072b2", "#d55e00", "#999999", "#009e73", "#cc79a7")
"""Okabe and Ito's, which colour-blind people can tell apart."""


def moving_mean(values: Sequence[float], window: int) -> list[float]:
    """The mean of each value and those before it, at most `window` of them."""
    return [mean(values[max(0, end - window) : end]) for end in range(1, len(values) + 1)]


def text_curve(values: Sequence[float], *, width: int = 60) -> str:
    """One line of bars from the lowest to the highest value, each the mean of what falls into it."""
    if not values:
        return ""
    count = min(width, len(values))
    edges = [round(n * len(values) / count) for n in range(count + 1)]
    means = [mean(values[a:b]) for a, b in pairwise(edges)]
    low, span = min(means), (max(means) - min(means)) or 1.0
    return "".join(_BARS[round((value - low) / span * (len(_BARS) - 1))] for value in means)


def svg_curve(
    series: Mapping[str, Sequence[float]],
    *,
    title: str,
    x: str,
    bands: Mapping[str, Sequence[tuple[float, float]]] | None = None,
) -> str:
    """Lines over their number, as SVG.

    Args:
        series: Values by name, in the order in which they are told apart.
        title: Over the picture.
        x: What is counted from left to right.
        bands: Low and high around the values of a line.
    """
    lines = [
        {"name": name, "n": n, "reward": value}
        for name, values in series.items()
        for n, value in enumerate(values, start=1)
    ]
    areas = [
        {"name": name, "n": n, "low": low, "high": high}
        for name, band in (bands or {}).items()
        for n, (low, high) in enumerate(band, start=1)
    ]
    colour = {
        "field": "name",
        "type": "nominal",
        "scale": {"domain": list(series), "range": list(_COLOURS[: len(series)])},
        "legend": {"title": None, "orient": "bottom"},
    }
    across = {"field": "n", "type": "quantitative", "title": x}
    layers: list[dict[str, Any]] = [
        {
            "data": {"values": areas},
            "mark": {"type": "area", "opacity": 0.18},
            "encoding": {
                "x": across,
                "y": {"field": "low", "type": "quantitative", "title": "mean reward"},
                "y2": {"field": "high"},
                "color": colour,
            },
        },
        {
            "data": {"values": lines},
            "mark": {"type": "line", "strokeWidth": 2},
            "encoding": {
                "x": across,
                "y": {"field": "reward", "type": "quantitative", "title": "mean reward"},
                "color": colour,
            },
        },
    ]
    chart = {
        "$schema": "https://vega.github.io/schema/vega-lite/v5.json",
        "title": title,
        "width": 640,
        "height": 280,
        "background": "white",
        "layer": layers if areas else layers[1:],
    }
    converter: Any = import_module("vl_convert")  # a large library that only this needs
    return str(converter.vegalite_to_svg(chart))

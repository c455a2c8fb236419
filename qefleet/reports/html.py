"""A run's report as one page that needs nothing beside it: no script, no request, no file.

All that it shows may be from a stranger's repository: the template escapes every value, and the page's own
policy forbids whatever would load or run something.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from qefleet.reports.evidence import Evidence
from qefleet.reports.page.charts import BESIDE, Bar, bar_chart, most
from qefleet.reports.page.shown import Shown, first
from qefleet.reports.page.view import view
from qefleet.reports.text import for_page

_PATCH_LINES = 2000
_PERCENT = 100.0


def html(evidence: Evidence) -> bytes:
    """Write the page of a run."""
    page = view(evidence)
    coverage: Sequence[Bar] = page.coverage.bars if page.coverage else ()
    text = (
        _environment()
        .get_template("report.html.j2")
        .render(
            page=page,
            css=Markup(_source("report.css")),  # noqa: S704 - a file of ours
            version=version("qefleet"),
            patch=_patch(evidence.patch),
            coverage_chart=_chart(
                coverage, label="Line coverage by file", end=BESIDE * _PERCENT, ticks=(0, 25, 50, 75, 100)
            ),
            steps_chart=_chart(page.step_bars, label="The agents on a time line", end=most(page.step_bars)),
            cost_chart=_chart(page.cost_bars, label="Tokens by agent", end=most(page.cost_bars)),
        )
    )
    return text.encode(errors="replace")


def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("qefleet.reports.page"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_printable,
    )


def _source(name: str) -> str:
    environment = _environment()
    source, _, _ = PackageLoader("qefleet.reports.page").get_source(environment, name)
    return source


def _printable(value: object) -> object:
    return for_page(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _chart(bars: Sequence[Bar], *, label: str, end: float, ticks: Sequence[float] | None = None) -> Markup:
    """The drawing; nothing where there is nothing to draw."""
    if not bars:
        return Markup()
    return Markup(bar_chart(bars, label=label, most=end, ticks=ticks))  # noqa: S704 - escaped where it is drawn


def _patch(content: bytes | None) -> Shown[str] | None:
    return first(content.decode(errors="replace").split("\n"), _PATCH_LINES) if content else None

"""The page of a run: all there is to see, nothing that runs or loads, and bounded."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from itertools import pairwise

import pytest
from page_reader import Page
from whole_run import HOSTILE, OPENED, whole_run

from qefleet.contracts.runs import RunResult
from qefleet.reports.evidence import Evidence
from qefleet.reports.files import report_files
from qefleet.reports.html import html
from qefleet.reports.text import for_page, seconds


@pytest.fixture(scope="module")
def page() -> Page:
    return Page(html(whole_run()).decode())


def test_page_has_each_section(page: Page) -> None:
    """Headings go down one level at a time, and the links at the top lead to sections."""
    headings = page.all("h1", "h2", "h3", "h4")
    levels = [int(heading.tag[1]) for heading in headings]

    assert [heading.text for heading in headings if heading.tag == "h2"] == [
        "Decision",
        "Coverage",
        "Findings",
        "Agents",
        "Judged",
        "Cost",
        "Tools",
        "Patch",
    ]
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))


def test_names_from_a_repository_are_text(page: Page) -> None:
    """Wherever one stands: no element, attribute or link comes of it, in charts neither."""
    text = page.elements[0].text
    attributes = {name for element in page.elements for name in element.attributes}

    assert page.all("script", "img", "iframe", "object", "link", "base", "form") == []
    assert not [
        name for name in attributes if name.startswith("on") or name in ("src", "srcset", "xlink:href")
    ]
    assert text.count(for_page(HOSTILE)) >= 20
    assert "\x1b" not in page.source
    assert "\u202e" not in page.source
    assert [e.text for e in page.all("text") if "script" in e.text]


def test_page_asks_for_nothing_from_elsewhere(page: Page) -> None:
    """Its links stay on it and lead somewhere; its policy forbids all but its own style."""
    ids = [element.attributes["id"] for element in page.elements if "id" in element.attributes]
    links = [element.attributes["href"] or "" for element in page.all("a")]
    (policy,) = [e for e in page.all("meta") if e.attributes.get("http-equiv") == "Content-Security-Policy"]
    (style,) = page.all("style")

    assert len(ids) == len(set(ids))
    assert links
    assert {*links} <= {f"#{name}" for name in ids}
    assert (policy.attributes["content"] or "").startswith("default-src 'none'; style-src 'unsafe-inline'")
    assert not re.search(r"url\(|@import|https?:", style.text)


def test_tables_tell_what_they_are(page: Page) -> None:
    """Each has a caption, and each of its headings says what it heads."""
    assert page.all("table")
    assert len(page.all("caption")) == len(page.all("table"))
    assert [th for th in page.all("th") if th.attributes.get("scope") not in ("col", "row")] == []


def test_decision_and_its_rules_are_told(page: Page) -> None:
    """What failed comes first; the figures are the gate's own."""
    first, second = page.by_id("rule-2"), page.by_id("rule-1")
    decision = page.by_id("decision").text

    assert "NO GO" in page.all("header")[0].text
    assert page.elements.index(first) < page.elements.index(second)
    assert "at most 0" in first.text
    assert "security.secrets is not measured" in first.text
    assert "fails" in first.text
    assert re.search(r"at least 75\s*80\s*holds\s*soft", second.text)
    for told in (
        "branch_percent_min: no branch has changed",
        "rejected by",
        "not yet",
        "branches.0",
        "a note",
    ):
        assert told in decision


def test_findings_are_sorted_by_severity(page: Page) -> None:
    """The failing test and the failed step among them, each with its place."""
    text = page.by_id("findings").text
    order = [text.index(word) for word in ("Critical", "High", "Medium", "Low", "Info")]

    assert order == sorted(order)
    assert "app/db.py:12" in page.by_id("critical-1").text
    assert "tests/test_a.py:7" in text
    assert "BudgetExceeded" in text


def test_citations_lead_to_what_they_cite(page: Page) -> None:
    """An issue, a test and a rule; what isn't on the page is no link."""
    judged = page.by_id("judged")
    links = {
        element.text: element.attributes["href"]
        for element in page.all("a")
        if element.inside[-1] in ("dd", "li") and "section" in element.inside
    }

    assert links["B608@app/db.py:12"] == "#critical-1"
    assert page.by_id((links["tests/test_a.py::test_x[<script>]"] or "")[1:]).text.startswith("failing test")
    assert links["line_percent_min"] == "#rule-1"
    assert "nothing@that/is:there" not in links
    assert "nothing@that/is:there" in judged.text
    assert "security-scanner#0" in judged.text


def test_coverage_is_told_before_and_after(page: Page) -> None:
    """In all and by file; the chart says the same as its table."""
    text = page.by_id("coverage").text
    charts = [svg for svg in page.all("svg") if svg.attributes["aria-label"] == "Line coverage by file"]

    assert re.search(r"Lines\s*50\.0 %\s*80\.0 %\s*8 of 10", text)
    assert re.search(r"Branches\s*25\.0 %\s*75\.0 %\s*3 of 4", text)
    assert [svg.attributes["class"] for svg in charts] == ["chart wide", "chart narrow"]
    assert all("80.0 %" in svg.text for svg in charts)


def test_agents_stand_on_a_time_line(page: Page) -> None:
    """From when they were recorded and how long they took."""
    wide = next(svg for svg in page.all("svg") if "time line" in (svg.attributes["aria-label"] or ""))

    assert "security-scanner#0" in wide.text
    assert "2.0 s, failed" in wide.text
    assert "Begun 500 ms after the run's begin" in page.by_id("step-1").text
    assert f"{OPENED:%Y-%m-%d %H:%M} UTC" in page.all("header")[0].text


def test_run_without_a_record_has_no_time_line() -> None:
    """As one whose database isn't in reach."""
    evidence = Evidence(result=whole_run().result)

    assert "time line" not in html(evidence).decode()


def test_cost_and_tools_are_told(page: Page) -> None:
    """By agent; the gate's relayed runs are not counted twice."""
    assert re.search(r"security-scanner\s*3\s*1\s*900\s*90\s*\$0\.0123", page.by_id("cost").text)
    assert re.search(r"bandit\s*1\.2\.3\s*security-scanner\s*1\s*1\.5 s", page.by_id("tools").text)


def test_run_that_found_nothing_has_a_page() -> None:
    """As one that ended before its first agent."""
    page = Page(html(Evidence(result=RunResult(target="/x", model="none"))).decode())

    assert "No gate was run" in page.by_id("decision").text
    assert "No agent came to work" in page.by_id("agents").text
    assert page.all("svg") == []


def test_ten_thousand_findings_make_no_page_that_nobody_opens() -> None:
    """Lists are cut and say so; it takes less than three seconds of a processor."""
    evidence = whole_run(issues=10_000, files=10_000, steps=1000)
    started = time.process_time()  # the drawing's threads count, other programs don't

    source = html(evidence)

    took_s = time.process_time() - started
    page = Page(source.decode())
    assert "and 1,900 more, in results.sarif and result.json" in page.by_id("findings").text
    assert "and 9,800 more, in cobertura.xml" in page.by_id("coverage").text
    assert "more, in result.json" in page.by_id("agents").text
    assert len(source) < 1_500_000
    assert took_s < 3


def test_page_is_among_the_report_files() -> None:
    """Beside those for programs."""
    assert report_files(whole_run())["report.html"].startswith(b"<!doctype html>")


def test_charts_are_drawn_by_who_asks_for_them() -> None:
    """The engine behind them is not loaded by whoever imports the reports."""
    program = "import qefleet.reports.files, sys; sys.exit('vl_convert' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


@pytest.mark.parametrize(
    ("value", "told"), [(0.004, "4 ms"), (2.55, "2.5 s"), (65, "1:05 min"), (7380, "2:03 h")]
)
def test_durations_read_well(value: float, told: str) -> None:
    """In the unit that a person would choose."""
    assert seconds(value) == told

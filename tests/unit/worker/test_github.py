"""What GitHub Actions is told."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from qefleet.contracts.issues import Severity
from qefleet.contracts.runs import AgentResult, Decision, RunResult
from qefleet.errors import InvalidInput
from qefleet.reports.evidence import Evidence
from qefleet.reports.findings import Finding, Rule
from worker.cli import github
from worker.settings import Ci

GITHUB = Ci(system="github")


def _finding(severity: Severity = "high", *, message: str = "m", line: int = 1) -> Finding:
    return Finding(
        rule=Rule.FAILING_TEST,
        severity=severity,
        title="a: b, c",
        message=message,
        identity="i",
        file="a,b.py",
        lines=(line, line),
    )


def test_commands_are_escaped() -> None:
    """As GitHub's own toolkit does: more in properties than in the message."""
    (told,) = github.commands_of([_finding(message="100%\r\n::error::x, y: z")])

    assert told == ("::error file=a%2Cb.py,line=1,endLine=1,title=a%3A b%2C c::100%25%0D%0A::error::x, y: z")


def test_ten_of_each_level_are_told() -> None:
    """GitHub drops the rest without a word."""
    severities: tuple[Severity, ...] = ("high", "medium", "low")
    told = list(github.commands_of([_finding(each, line=n) for each in severities for n in range(1, 20)]))

    names = [line.split(" ")[0] for line in told]
    assert names == ["::error"] * 10 + ["::warning"] * 10 + ["::notice"] * 10


def test_what_is_printed_between_commands_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    """GitHub takes no commands until it is told the token."""
    with github.muted(GITHUB, as_json=False):
        sys.stdout.write("::error::a test's name\n")

    stop, _, resume = capsys.readouterr().out.splitlines()
    token = stop.removeprefix("::stop-commands::")
    assert (resume, len(token) >= 32) == (f"::{token}::", True)


def test_json_is_alone_on_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    """Commands go to the other stream, where GitHub reads them too."""
    with github.muted(GITHUB, as_json=True):
        pass
    github.annotate([_finding()], error="it failed", as_json=True)

    said = capsys.readouterr()
    assert (said.out, len(said.err.splitlines())) == ("", 4)


def test_elsewhere_nothing_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    """On a terminal a command would be noise."""
    with pytest.raises(InvalidInput), github.errors_told(Ci(system="gitlab"), as_json=False):
        raise InvalidInput("base", "wrong")
    with github.muted(Ci(system=None), as_json=False):
        pass
    github.append_summary(Ci(system=None), "x")
    github.append_outputs(Ci(system=None), {"x": 1})

    assert capsys.readouterr().out == ""


def test_error_that_ends_the_command_is_annotated(capsys: pytest.CaptureFixture[str]) -> None:
    """Bad input shows on the run's page."""
    with pytest.raises(InvalidInput), github.errors_told(GITHUB, as_json=False):
        raise InvalidInput("base", "wrong")

    assert capsys.readouterr().out == "::error title=qe::base: wrong\n"


def test_outputs_can_hold_anything(tmp_path: Path) -> None:
    """A value can't smuggle another output in; None is left out."""
    ci = Ci(system="github", output=tmp_path / "output")

    github.append_outputs(ci, {"report": "a\nevil=1", "ui": None})

    first, *body, last = (tmp_path / "output").read_text().splitlines()
    assert (first, body) == (f"report<<{last}", ["a", "evil=1"])


def test_summary_shows_decision_steps_findings_and_patch(tmp_path: Path) -> None:
    """Text of others is no markup of ours, and a patch with fences stays in its own."""
    step = AgentResult(
        step="test-executor#0", agent="test-executor", status="completed", headline="<b>|x|\n`y`</b>"
    )
    result = RunResult(decision=Decision.NO_GO, target="/x", model="none", steps=[step])
    ci = Ci(system="github", summary=tmp_path / "summary.md")

    text = github.summary(
        Evidence(result=result, patch=b"+```\n+x\n"),
        [_finding(message="[click](javascript:x)")],
        failure=None,
        workflow_id="qe-1",
        ui="http://localhost:8233/x",
    )
    github.append_summary(ci, text)

    assert (tmp_path / "summary.md").read_text() == text
    assert text.startswith("## Quality: NO_GO\n\n`qe-1` of /x, model none\n\n[In the Temporal UI](http://")
    assert "| test-executor#0 | completed | &lt;b>\\|x\\| \\`y\\`&lt;/b> |" in text
    assert "| error | a,b.py:1 | \\[click\\](javascript:x) |" in text
    assert "\n``````diff\n+```\n+x\n``````\n" in text


def test_summary_is_bounded(tmp_path: Path) -> None:
    """GitHub would refuse all of it."""
    ci = Ci(system="github", summary=tmp_path / "summary.md")

    github.append_summary(ci, "é" * (1 << 20))

    assert (tmp_path / "summary.md").stat().st_size == 1 << 20

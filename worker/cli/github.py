"""What GitHub Actions is told: annotations, a summary on the run's page, outputs for later steps.

https://docs.github.com/en/actions/reference/workflows-and-actions/workflow-commands
"""

from __future__ import annotations

import secrets
import sys
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from qefleet.errors import QeError

if TYPE_CHECKING:
    from qefleet.reports.evidence import Evidence
    from qefleet.reports.findings import Finding
    from worker.settings import Ci

SHOWN = 10
"""GitHub shows no more annotations of one level from one step."""
_SUMMARY_BYTES = 1 << 20
_PATCH_CHARS = 200_000
_LISTED = 50
_LEVELS = {"error": "error", "warning": "warning", "note": "notice"}


@contextmanager
def muted(ci: Ci, *, as_json: bool) -> Generator[None]:
    """Let nothing that is printed in this block command GitHub.

    Names of tests and messages of errors are printed, and a line of theirs may begin with `::`.

    Args:
        ci: Where this runs; elsewhere than on GitHub nothing happens.
        as_json: Standard output is for JSON alone.
    """
    if ci.system != "github":
        yield
        return
    token = secrets.token_hex(16)
    _say(f"::stop-commands::{token}", as_json=as_json)
    try:
        yield
    finally:
        _say(f"::{token}::", as_json=as_json)


@contextmanager
def errors_told(ci: Ci, *, as_json: bool) -> Generator[None]:
    """Annotate the error that ends this block, as `muted`."""
    try:
        yield
    except QeError as error:
        if ci.system == "github":
            _say(command("error", str(error), title="qe"), as_json=as_json)
        raise


def annotate(findings: Sequence[Finding], *, error: str | None, as_json: bool) -> None:
    """Print a command for the error that ended a run, and for each finding, `SHOWN` of each level."""
    if error:
        _say(command("error", error, title="qe: the run failed"), as_json=as_json)
    for line in commands_of(findings):
        _say(line, as_json=as_json)


def commands_of(findings: Sequence[Finding]) -> Iterator[str]:
    """A command for each finding, `SHOWN` of each level."""
    left = dict.fromkeys(_LEVELS, SHOWN)
    for finding in findings:
        if left[finding.level]:
            left[finding.level] -= 1
            first, last = finding.lines or (None, None)
            yield command(
                _LEVELS[finding.level],
                finding.message,
                file=finding.file,
                line=first,
                endLine=last,
                title=finding.title,
            )


def command(name: str, message: str, **properties: str | int | None) -> str:
    """One workflow command, escaped; properties that are None are left out."""
    given = [f"{key}={_property(str(value))}" for key, value in properties.items() if value is not None]
    return f"::{name}{' ' if given else ''}{','.join(given)}::{_data(message)}"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")


def append_outputs(ci: Ci, outputs: Mapping[str, object]) -> None:
    """Give values to the steps that follow; None is left out."""
    if ci.output:
        lines: list[str] = []
        for name, value in outputs.items():
            if value is not None:
                end = f"end-{secrets.token_hex(8)}"
                lines.append(f"{name}<<{end}\n{value}\n{end}\n")
        _append(ci.output, "".join(lines))


def append_summary(ci: Ci, text: str) -> None:
    """Show Markdown on the run's page; GitHub refuses more than a megabyte."""
    if ci.summary:
        _append(ci.summary, text.encode(errors="replace")[:_SUMMARY_BYTES].decode(errors="ignore"))


def summary(
    evidence: Evidence, findings: Sequence[Finding], *, failure: str | None, workflow_id: str, ui: str | None
) -> str:
    """A run's end as Markdown: decision, steps, coverage, findings, patch."""
    from worker.cli.summary import coverage_rows

    result, patch = evidence.result, evidence.patch
    decision = "the run failed" if failure else (result.decision.value if result.decision else "no gate")
    lines = [
        f"## Quality: {decision}",
        "",
        f"`{workflow_id}` of {_cell(result.target)}, model {_cell(result.model)}",
    ]
    lines += ["", _cell(failure)] if failure else []
    lines += ["", f"[In the Temporal UI]({ui})"] if ui else []
    lines += ["", "| step | status | |", "|---|---|---|"]
    lines += [f"| {step.step} | {step.status} | {_cell(step.headline)} |" for step in result.steps]
    if rows := list(coverage_rows(result)):
        lines += ["", "| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows)]
    if findings:
        lines += ["", "| | where | what |", "|---|---|---|", *map(_row, findings[:_LISTED])]
        more = len(findings) - _LISTED
        lines += ["", f"and {more} more, in `results.sarif`"] if more > 0 else []
    if patch:
        text = patch.decode(errors="replace")
        cut = "\n…" if len(text) > _PATCH_CHARS else ""
        fence = "`" * (3 + _longest_run(text))
        shown = text[:_PATCH_CHARS].rstrip("\n") + cut
        lines += ["", "<details><summary>Patch: what it proposes</summary>", "", f"{fence}diff", shown, fence]
        lines += ["", "</details>"]
    return "\n".join(lines) + "\n\n"


def _row(finding: Finding) -> str:
    where = f"{finding.file}:{finding.lines[0]}" if finding.file and finding.lines else ""
    return f"| {_LEVELS[finding.level]} | {_cell(where)} | {_cell(finding.message)} |"


def _cell(text: str) -> str:
    """On one line, and nothing in it means anything to Markdown."""
    escaped = "".join(f"\\{char}" if char in "\\`*_[]|#~" else char for char in " ".join(text.split())[:300])
    return escaped.replace("&", "&amp;").replace("<", "&lt;")


def _longest_run(text: str) -> int:
    longest = run = 0
    for char in text:
        run = run + 1 if char == "`" else 0
        longest = max(longest, run)
    return longest


def _append(path: Path, text: str) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write(text)


def _say(line: str, *, as_json: bool) -> None:
    stream = sys.stderr if as_json else sys.stdout
    stream.write(f"{line}\n")
    stream.flush()

"""What a run has left behind that its report files are made of."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from qefleet.contracts.base import Digest
from qefleet.contracts.changes import Changes
from qefleet.contracts.runs import AgentResult, RunResult

Fetch = Callable[[Digest], Awaitable[bytes]]
"""Gives an artifact's bytes."""

_RUNS_TESTS = ("test-executor", "coverage-analyzer", "test-generator")
"""Who keeps a JUnit file, the one with the say first."""
_MEASURES_COVERAGE = ("coverage-analyzer", "test-generator")


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """What the database tells of a run beside its result."""

    workflow_id: str
    pattern: str
    opened_at: datetime
    closed_at: datetime | None = None
    """None for a run that hasn't ended, or ended without a report."""
    recorded_at: Mapping[str, datetime] = field(default_factory=dict[str, datetime])
    """By step: when its result was written down, which is when it ended."""


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """A run's result and those of its artifacts that reports are made of."""

    result: RunResult
    junit: tuple[bytes, ...] = ()
    """As pytest wrote them, the latest last; in a later one a test has the later say."""
    coverage_json: Any = None
    """coverage.py's own report, parsed; None where there is none."""
    coverage_xml: bytes | None = None
    changes: Changes | None = None
    """In diff mode."""
    report: bytes | None = None
    patch: bytes | None = None
    folder: str = ""
    """Where the target lies in its repository, such as `backend/`; empty for its root."""
    record: RunRecord | None = None
    """None where the run's database isn't in reach."""


async def gather(
    result: RunResult, fetch: Fetch, *, folder: str = "", record: RunRecord | None = None
) -> Evidence:
    """Read what reports need.

    Args:
        result: The run's.
        fetch: Gives an artifact's bytes.
        folder: Where the target lies in its repository, with a slash at its end.
        record: What is known of the run besides.
    """

    async def read(digest: Digest | None) -> bytes | None:
        return await fetch(digest) if digest else None

    coverage = await read(_latest(result.steps, "coverage.json"))
    changes = await read(result.snapshot.changes if result.snapshot else None)
    return Evidence(
        result=result,
        junit=tuple([await fetch(digest) for digest in _junit(result.steps)]),
        coverage_json=_json(coverage),
        coverage_xml=await read(_latest(result.steps, "coverage.xml")),
        changes=Changes.model_validate_json(changes) if changes else None,
        report=await read(result.report.digest if result.report else None),
        patch=await read(result.patch.digest if result.patch else None),
        folder=folder,
        record=record,
    )


def _junit(steps: list[AgentResult]) -> list[Digest]:
    """The files of the agent that has the say about tests: others have run the same suite again."""
    for agent in _RUNS_TESTS:
        if found := [
            digest for step in steps if step.agent == agent and (digest := _artifact(step, "junit.xml"))
        ]:
            return found
    return []


def _latest(steps: list[AgentResult], name: str) -> Digest | None:
    for agent in _MEASURES_COVERAGE:
        for step in reversed(steps):
            if step.agent == agent and (digest := _artifact(step, name)):
                return digest
    return None


def _artifact(step: AgentResult, name: str) -> Digest | None:
    return next((artifact.digest for artifact in step.artifacts if artifact.name == name), None)


def _json(content: bytes | None) -> Any:
    """Parsed; None where code under test has left something else."""
    try:
        return json.loads(content) if content else None
    except ValueError:
        return None

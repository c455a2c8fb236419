"""The history of a test suite from its JUnit reports: what fails since when, what has become slow.

Each statistic is documented at its type in the contracts.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from qefleet.contracts.production import FailingTestRate, NewlyFailing, SlowedTest
from qefleet.tools.running.junit import Case, read_cases

LEAST_RUNS = 4
"""Without so many nothing can be told from chance."""
_MOST_BYTES = 32 << 20
_MOST_FILES = 200
_LEAST_PASSING = 3
_LATEST = 3
_LEAST_BEFORE = 5
_Z = 6.0
_SLOWER = 1.5
_SLOWER_S = 0.05
_MAD_TO_SIGMA = 1.4826
_STAMP = re.compile(rb'timestamp="([^"]{10,40})"')
_DIGITS = re.compile(r"(\d+)")


@dataclass(frozen=True, kw_only=True)
class History:
    """What a test suite's reports tell."""

    files: tuple[str, ...]
    """Oldest first."""
    unreadable: tuple[str, ...]
    newly_failing: tuple[NewlyFailing, ...]
    slowed: tuple[SlowedTest, ...]
    failing: tuple[FailingTestRate, ...]


def read_history(project: Path, paths: Sequence[str]) -> History:
    """Read reports, and tell what they say together.

    Args:
        project: The project's folder.
        paths: Of reports within it, in any order: the runs' own time stamps give it, or the files' names.
    """
    runs: list[tuple[str, str, list[Case]]] = []
    unreadable: list[str] = []
    for path in paths:
        content = _content(project, path)
        cases = read_cases(content)
        if content is None or cases is None:
            unreadable.append(path)
            continue
        stamp = _STAMP.search(content[:4096])
        runs.append((stamp[1].decode("ascii", "replace") if stamp else "", path, cases))
    stamped = all(stamp for stamp, _, _ in runs)
    runs.sort(key=lambda run: (run[0] if stamped else "", _natural(run[1])))
    runs = runs[-_MOST_FILES:]
    by_test: dict[str, list[Case]] = {}
    for _, _, cases in runs:
        for case in cases:
            if case.kind != "skipped":
                by_test.setdefault(case.node_id, []).append(case)
    latest = {case.node_id for case in runs[-1][2]} if runs else set[str]()
    return History(
        files=tuple(path for _, path, _ in runs),
        unreadable=tuple(sorted(unreadable)),
        newly_failing=tuple(newly_failing({test: by_test[test] for test in by_test if test in latest})),
        slowed=tuple(slowed(by_test)),
        failing=tuple(_failing(by_test)),
    )


def newly_failing(by_test: Mapping[str, Sequence[Case]]) -> list[NewlyFailing]:
    """Tests that passed at least three times, then failed in each run until now."""
    found: list[NewlyFailing] = []
    for test, cases in sorted(by_test.items()):
        failed = [case.kind != "passed" for case in cases]
        streak = len(failed) if all(failed) else failed[::-1].index(False)
        before = len(failed) - streak
        if streak and before >= _LEAST_PASSING and not any(failed[:before]):
            p = (1 / (before + 2)) ** streak
            found.append(NewlyFailing(test=test, failing_runs=streak, passing_runs=before, p=p))
    return sorted(found, key=lambda it: (it.p, it.test))


def slowed(by_test: Mapping[str, Sequence[Case]]) -> list[SlowedTest]:
    """Tests whose last three runs took half as long again as those before, far beyond their spread."""
    found: list[SlowedTest] = []
    for test, cases in sorted(by_test.items()):
        times = [case.duration_s for case in cases if case.kind == "passed"]
        if len(times) < _LATEST + _LEAST_BEFORE:
            continue
        before, after = median(times[:-_LATEST]), median(times[-_LATEST:])
        deviation = _MAD_TO_SIGMA * median(abs(time - before) for time in times[:-_LATEST])
        z = (after - before) / max(deviation, 0.05 * before, 0.001)
        if z >= _Z and after >= _SLOWER * before and after - before >= _SLOWER_S:
            found.append(
                SlowedTest(test=test, before_s=round(before, 4), after_s=round(after, 4), z=round(z, 1))
            )
    return sorted(found, key=lambda it: (-it.z, it.test))


def _failing(by_test: Mapping[str, Sequence[Case]]) -> list[FailingTestRate]:
    rates = [
        FailingTestRate(test=test, runs=len(cases), failures=sum(case.kind != "passed" for case in cases))
        for test, cases in by_test.items()
    ]
    failing = [rate for rate in rates if rate.failures]
    return sorted(failing, key=lambda rate: (-rate.failures / rate.runs, rate.test))


def _content(project: Path, path: str) -> bytes | None:
    file = project / path
    if file.is_symlink() or not file.is_file() or not file.resolve().is_relative_to(project.resolve()):
        return None
    return file.read_bytes() if file.stat().st_size <= _MOST_BYTES else None


def _natural(path: str) -> list[tuple[int, str]]:
    """Names in the order that people mean: `run-9` before `run-10`."""
    return [(int(part), "") if part.isdigit() else (0, part) for part in _DIGITS.split(path)]

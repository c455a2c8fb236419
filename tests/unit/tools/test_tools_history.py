"""A suite's history from planted JUnit reports."""

from __future__ import annotations

from pathlib import Path

import pytest

from qefleet.tools.production.history import read_history

_RUNS = 12


def _report(run: int, *, stamp: bool) -> str:
    """`broken` fails from run 11 on, `flaky` every third time, `slow` takes 0.4 s from run 10 on."""
    jitter = (run * 7 % 5) / 100
    cases = {
        "steady": (0.1 + jitter, False),
        "slow": ((0.4 if run >= 10 else 0.1) + jitter, False),
        "noisy": (0.1 + (run % 2) * 0.3, False),
        "broken": (0.1, run >= 11),
        "flaky": (0.1, run % 3 == 0),
        "always": (0.1, True),
    }
    text = "".join(
        f'<testcase classname="tests.test_it" name="{name}" time="{took:.3f}">'
        + ('<failure message="no"/>' if fails else "")
        + "</testcase>"
        for name, (took, fails) in cases.items()
    )
    when = f' timestamp="2026-01-{run:02d}T00:00:00"' if stamp else ""
    return f'<testsuites><testsuite name="pytest"{when} tests="{len(cases)}">{text}</testsuite></testsuites>'


def _planted(folder: Path, *, stamp: bool) -> list[str]:
    """With time stamps the names are in the wrong order; without, they count as people do."""
    for run in range(1, _RUNS + 1):
        name = f"run-{_RUNS - run if stamp else run}.xml"
        (folder / name).write_text(_report(run, stamp=stamp))
    return sorted(path.name for path in folder.glob("*.xml"))


@pytest.mark.parametrize("stamp", [True, False])
def test_what_fails_now_and_what_became_slow_is_found(tmp_path: Path, stamp: bool) -> None:
    """Not what always failed, what is flaky, or what takes now long and now short."""
    history = read_history(tmp_path, _planted(tmp_path, stamp=stamp))

    (failing,) = history.newly_failing
    assert (failing.test, failing.failing_runs, failing.passing_runs) == ("tests.test_it::broken", 2, 10)
    assert failing.p == pytest.approx((1 / 12) ** 2)
    (slow,) = history.slowed
    assert (slow.test, slow.before_s, slow.after_s) == ("tests.test_it::slow", 0.12, 0.42)
    assert [(it.test.partition("::")[2], it.failures, it.runs) for it in history.failing] == [
        ("always", 12, 12),
        ("flaky", 4, 12),
        ("broken", 2, 12),
    ]
    assert history.files[0] == ("run-11.xml" if stamp else "run-1.xml")


def test_a_history_of_passing_runs_has_nothing_to_tell(tmp_path: Path) -> None:
    for run in range(1, 6):
        text = '<testcase classname="t" name="a" time="0.1"/>'
        (tmp_path / f"{run}.xml").write_text(f"<testsuite>{text}</testsuite>")
    history = read_history(tmp_path, [f"{run}.xml" for run in range(1, 6)])

    assert (history.newly_failing, history.slowed, history.failing) == ((), (), ())


def test_what_is_no_report_is_named_and_links_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "broken.xml").write_text("<testsuite><testcase")
    (tmp_path / "link.xml").symlink_to("/etc/passwd")

    assert read_history(tmp_path, ["broken.xml", "link.xml"]).unreadable == ("broken.xml", "link.xml")

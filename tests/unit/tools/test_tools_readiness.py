"""The lines of a release's checklist, from what was reported."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import pytest

from qefleet.contracts.measured import Measured, Measurement, Unmeasured
from qefleet.contracts.readiness import Check
from qefleet.contracts.runs import AgentResult, Decision
from qefleet.tools.program import ToolReport
from qefleet.tools.release.distributions import Wheel, missing_modules, read_wheel
from qefleet.tools.release.pins import Installed
from qefleet.tools.release.readiness import (
    contents_problem,
    install_problem,
    of_inventory,
    of_run,
    of_wheel,
    since_last,
)

_METADATA = (
    "Metadata-Version: 2.4\nName: planted\nVersion: 1.2\nSummary: Doubles\nRequires-Python: >=3.8\n\nText\n"
)


def _wheel(files: dict[str, str], metadata: str = _METADATA) -> Wheel:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, text in {**files, "planted-1.2.dist-info/METADATA": metadata}.items():
            archive.writestr(name, text)
    return read_wheel(content.getvalue())


def _project(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def _failed(checks: list[Check]) -> dict[str, tuple[str, bool]]:
    return {check.id: (check.why, check.blocks) for check in checks if check.status == "failed"}


def test_a_wheel_says_what_it_is_without_being_executed() -> None:
    found = _wheel(
        {
            "planted/__init__.py": "__version__: str = '1.1'\nraise SystemExit\n",
            "planted/more.py": "__version__ = compute()\n",
            "tests/__init__.py": "",
            "_native.cpython-311.so": "",
            "planted/data/x.py": "__version__ = '9'\n",
        }
    )

    assert found.headers == {
        "Name": "planted",
        "Version": "1.2",
        "Summary": "Doubles",
        "Requires-Python": ">=3.8",
    }
    assert found.modules == ("_native", "planted")
    assert found.stated_versions == {"planted/__init__.py": "1.1"}


@pytest.mark.parametrize("content", [b"", b"PK", b"}{"])
def test_what_is_no_wheel_is_refused(content: bytes) -> None:
    with pytest.raises(ValueError, match="the wheel can't be read"):
        read_wheel(content)


def test_modules_that_the_wheel_lacks_are_named(tmp_path: Path) -> None:
    """Tests aren't missed, nor packages of the repository that the wheel brings nothing of."""
    project = _project(
        tmp_path, "pkg/__init__.py", "pkg/a.py", "pkg/sub/b.py", "pkg/tests/test_a.py", "other/__init__.py"
    )

    assert missing_modules(project, _wheel({"pkg/__init__.py": "", "pkg/a.py": ""})) == ["pkg/sub/b.py"]
    assert missing_modules(project, _wheel({"pkg/__init__.py": "", "pkg/a.py": "", "pkg/sub/b.py": ""})) == []
    assert "other/__init__.py" in missing_modules(project, _wheel({}))


def test_versions_that_differ_are_found(tmp_path: Path) -> None:
    """One in the code deserves a look; another than the one that is to be released blocks."""
    wheel = _wheel({"pkg/__init__.py": '__version__ = "1.1"\n'})

    assert _failed([*of_wheel(wheel, _project(tmp_path, "pkg/__init__.py"), version="1.3")]) == {
        "version-consistent": ("the metadata says 1.2, pkg/__init__.py says 1.1", False),
        "version-asked": ("they have 1.2, and 1.3 is to be released", True),
    }


def test_versions_are_compared_as_versions(tmp_path: Path) -> None:
    wheel = _wheel({"pkg/__init__.py": '__version__ = "v1.2.0"\n'})

    assert _failed([*of_wheel(wheel, _project(tmp_path, "pkg/__init__.py"), version="1.2.0")]) == {}


def test_metadata_that_lacks_something_is_found(tmp_path: Path) -> None:
    wheel = _wheel({"pkg/__init__.py": ""}, "Metadata-Version: 2.4\nName: planted\nVersion: 1.2\n\n")

    checks = [*of_wheel(wheel, _project(tmp_path, "pkg/__init__.py"), version=None)]
    assert _failed(checks) == {"metadata": ("it has no Summary, Requires-Python", False)}


def test_licences_are_of_what_the_project_needs_alone() -> None:
    installed = Installed(
        project="planted",
        installed={"planted": "1", "a": "1", "b": "1", "pytest": "9"},
        needed={"a": "1", "b": "1"},
        absent=(),
    )
    found = {"a": "GPL-3.0-only", "b": "UNKNOWN", "pytest": "AGPL-3.0"}

    checks = [*of_inventory(_report(installed), _report({"a": "1"}), _report(found), ["*agpl*", "gpl-3*"])]
    assert _failed(checks) == {
        "sbom": ("it has no b", False),
        "licences-known": ("nobody knows that of b", False),
        "licences-allowed": ("a is under GPL-3.0-only", True),
    }


def test_without_an_answer_of_the_environment_nothing_is_said_of_licences() -> None:
    nothing: ToolReport[Any] = ToolReport(run=None, value=None, reason="it hung")

    checks = [*of_inventory(nothing, _report({}), _report({}), ["*"])]
    assert {(check.status, check.why) for check in checks} == {("unmeasured", "it hung")}


def test_equal_files_in_a_wheel_are_no_fault() -> None:
    assert contents_problem(["W002: Wheel contains duplicate files"]) == ""
    assert contents_problem(["W002: x", "W005: tests"]) == "W005: tests"


def test_a_wheel_that_brings_no_module_is_no_use() -> None:
    assert install_problem({}) == "it brings no module"
    assert install_problem({"a": "", "b": "ImportError: c"}) == "import b: ImportError: c"
    assert install_problem({"": "it can't be installed: no"}) == "it can't be installed: no"


def test_what_the_run_has_found_is_on_the_list() -> None:
    """The latest value of each metric counts; what no step has looked at has no line."""
    earlier = [
        _result("test-executor", {"tests.failed": 7, "tests.errors": 0}),
        _result("test-executor", {"tests.failed": 2}),
        _result("security-scanner", {"security.critical": 0, "security.secrets": None, "security.high": 1}),
        _result("code-complexity", {}, status="failed"),
        _result("quality-gate", {}, decision=Decision.CONDITIONAL),
    ]
    checks = [*of_run(earlier)]

    assert _failed(checks) == {
        "run-complete": ("code-complexity#0 failed", True),
        "run-tests": ("tests.failed is 2", True),
        "run-weaknesses": ("security.high is 1", False),
        "run-gate": ("quality-gate says so", False),
    }
    assert [(c.id, c.why) for c in checks if c.status == "unmeasured"] == [("run-security", "it hung")]
    assert [*of_run([])] == []
    assert [check.id for check in of_run([_result("test-executor", {})])] == ["run-complete"]


def test_a_refused_gate_blocks() -> None:
    (_, gate) = of_run([_result("quality-gate", {}, decision=Decision.NO_GO)])

    assert (gate.id, gate.status, gate.blocks) == ("run-gate", "failed", True)


def test_what_was_mended_since_the_last_run_is_named() -> None:
    before = [_check("builds", "failed"), _check("twine", "passed"), _check("sbom", "unmeasured")]
    details = {"version": "1.1", "checks": [check.model_dump(mode="json") for check in before]}
    last = _result("deployment-readiness", {})
    last = last.model_copy(update={"measured": Measurement(details=details)})
    now = [_check("builds", "passed"), _check("twine", "failed"), _check("sbom", "passed")]
    history = since_last(last, now)

    assert history
    assert history.model_dump() == {"version": "1.1", "mended": ["builds"], "broken": ["twine"]}


def _check(check_id: str, status: Any) -> Check:
    return Check(id=check_id, asks="it holds", status=status, blocks=True)


def _report(value: Any) -> ToolReport[Any]:
    return ToolReport(run=None, value=value)


def _result(
    agent: str,
    metrics: dict[str, float | None],
    *,
    decision: Decision | None = None,
    status: Any = "completed",
) -> AgentResult:
    measured = {
        name: Unmeasured(reason="it hung") if value is None else Measured(value=value, unit="", tool=0)
        for name, value in metrics.items()
    }
    return AgentResult(
        step=f"{agent}#0",
        agent=agent,
        status=status,
        decision=decision,
        headline=f"{agent} says so",
        measured=Measurement(metrics=measured),
    )

"""What a CI job does: real commands on real commits, their exit codes, report files, and second runs."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pytest
import yaml
from running_fleet import HERE

from qefleet.testing.provider import ScriptedProvider
from tests.acceptance.command_line import Ended, environment, qe, read_json, running
from tests.schemas import check_cobertura, check_junit, check_sarif

_ACTION: Any = yaml.safe_load((HERE.parents[1] / "action.yml").read_text())
_MEASURE = ("--agents", "test-executor,coverage-analyzer,quality-gate")
_SUMS = (
    "def add(a, b):\n    return a + b\n\n\ndef never_tested(a):\n    if a:\n        return 1\n    return 2\n"
)
_TESTS = "from sums import add\n\n\ndef test_add():\n    assert add(1, 2) == 3\n"
_OLD_FAILURE = "\n\ndef test_old_failure():\n    assert add(1, 1) == 3\n"


def git(folder: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=x", "-c", "user.email=x@example.org", "-c", "commit.gpgsign=false")
    return subprocess.run(
        ["git", *identity, *arguments], cwd=folder, check=True, capture_output=True, text=True
    ).stdout.strip()


def commit(folder: Path, **files: str) -> str:
    """Write files and commit them; the hash."""
    for name, text in files.items():
        path = folder / (f"tests/{name}.py" if name.startswith("test_") else f"{name}.py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", "x")
    return git(folder, "rev-parse", "HEAD")


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A project on `main`, green, with little covered; `work` is checked out."""
    folder = tmp_path / "project"
    folder.mkdir()
    git(folder, "init", "--quiet", "--initial-branch=main")
    commit(folder, sums=_SUMS, test_sums=_TESTS)
    git(folder, "checkout", "--quiet", "-b", "work")
    return folder


@pytest.fixture(scope="module")
async def provider() -> Any:
    async with ScriptedProvider(replies=f"{HERE / 'planted.py'}:answer") as running_provider:
        yield running_provider


@pytest.fixture(scope="module")
def env(provider: ScriptedProvider, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return environment(
        tmp_path_factory.mktemp("data"),
        QE_MODEL="openai/gpt-4.1-mini",
        OPENAI_API_KEY="sk-test-canary",
        OPENAI_BASE_URL=f"{provider.url}/v1",
    )


@pytest.fixture(scope="module")
def up(env: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Generator[dict[str, Any]]:
    with running("up", "--json", env=env, cwd=tmp_path_factory.mktemp("cwd")) as process:
        yield read_json(process)


def github(folder: Path) -> dict[str, str]:
    """What GitHub gives to a step."""
    return {
        "GITHUB_ACTIONS": "true",
        "GITHUB_STEP_SUMMARY": str(folder / "summary.md"),
        "GITHUB_OUTPUT": str(folder / "output"),
    }


@pytest.fixture
def job(up: dict[str, Any], env: dict[str, str], repository: Path, tmp_path: Path) -> Callable[..., Ended]:
    """Runs `qe run pipeline .` as a step of a GitHub job, in the repository."""
    assert up["running"]

    def run(*arguments: str, **more: str) -> Ended:
        report = ("--report", str(tmp_path / "out"))
        whole = {**env, **github(tmp_path), **more}
        return qe("run", "pipeline", ".", *report, *arguments, env=whole, cwd=repository)

    return run


def report(tmp_path: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}


def check_files(files: dict[str, bytes]) -> None:
    """Each is what its format's schema asks for."""
    check_sarif(files["results.sarif"])
    check_junit(files["junit.xml"])
    check_cobertura(files["cobertura.xml"])


async def test_green_commit_is_a_go_and_its_second_run_attaches(
    job: Callable[..., Ended],
    env: dict[str, str],
    provider: ScriptedProvider,
    repository: Path,
    tmp_path: Path,
) -> None:
    """0, valid files; the same job again is the same run, at once and without a model's help."""
    first = job(*_MEASURE, "--json")
    files = report(tmp_path)
    asked = len(await provider.requests())
    began = time.monotonic()
    second = job(*_MEASURE, "--json")
    took_s = time.monotonic() - began
    fewer = ("--agents", "test-executor,quality-gate", "--json")
    other, attached = job(*fewer, "--detach"), job(*fewer)

    head = git(repository, "rev-parse", "HEAD")[:12]
    assert (first.code, second.code) == (0, 0), first.err + second.err
    assert first.json["workflow_id"].startswith(f"qe-project-{head}-pipeline-")
    assert second.json["result"] == first.json["result"]
    assert (second.json["workflow_id"], "has ended before" in second.err) == (first.json["workflow_id"], True)
    assert len(await provider.requests()) == asked
    assert took_s < 20
    assert other.json["workflow_id"] != first.json["workflow_id"]
    assert (attached.code, attached.json["workflow_id"]) == (0, other.json["workflow_id"])
    assert set(files) == {
        *("report.html", "report.md", "result.json", "junit.xml", "results.sarif", "cobertura.xml")
    }
    check_files(files)
    listed = [run["workflow_id"] for run in qe("report", "--json", env=env, cwd=tmp_path).json]
    assert [listed.count(ended.json["workflow_id"]) for ended in (first, other)] == [1, 1]


def test_red_commit_is_a_no_go_that_is_annotated(
    up: dict[str, Any], env: dict[str, str], repository: Path, tmp_path: Path
) -> None:
    """By the action's own script: 1; GitHub is told the test and its line, the decision, and a summary."""
    assert up["running"]
    commit(repository, test_sums=_TESTS.replace("== 3", "== 4"))
    step = next(step for step in _ACTION["runs"]["steps"] if step.get("id") == "run")
    inputs = dict.fromkeys(step["env"], "") | {
        "INPUT_PATTERN": "pipeline",
        "INPUT_TARGET": ".",
        "INPUT_REPORT": str(tmp_path / "out"),
        "INPUT_ARGS": " ".join(_MEASURE),
    }

    ended = subprocess.run(
        ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]],
        env={**env, **github(tmp_path), **inputs},
        cwd=repository,
        capture_output=True,
        text=True,
        check=False,
    )

    assert ended.returncode == 1, ended.stderr
    assert "::error file=tests/test_sums.py,line=5,endLine=5,title=failing test::" in ended.stdout
    assert "decision<<" in (tmp_path / "output").read_text()
    assert "\nNO_GO\n" in (tmp_path / "output").read_text()
    assert "## Quality: NO_GO" in (tmp_path / "summary.md").read_text()
    check_files(report(tmp_path))
    levels = [r["level"] for r in json.loads(report(tmp_path)["results.sarif"])["runs"][0]["results"]]
    assert levels.count("error") == 2  # the test, and the gate's rule
    assert b"failed_tests_max" in report(tmp_path)["junit.xml"]


@pytest.mark.parametrize(
    ("arguments", "field"),
    [(("--base", "no-such-branch"), "base"), (("--threshold", "nonsense=1"), "thresholds.nonsense")],
)
def test_bad_input_exits_2_and_is_annotated(
    job: Callable[..., Ended], arguments: tuple[str, ...], field: str
) -> None:
    """Found out by the command, or by the worker."""
    ended = job(*_MEASURE, *arguments)

    assert (ended.code, f"{field}: " in ended.err) == (2, True), ended.err
    assert "::error title=qe" in ended.out


def test_failed_run_exits_3_keeps_its_report_and_is_run_again(
    job: Callable[..., Ended], repository: Path, tmp_path: Path
) -> None:
    """What it recorded until then is in the files; a second run of the job tries anew."""
    commit(repository, test_slow="import time\n\n\ndef test_slow():\n    time.sleep(30)\n")
    step = {"agent": "test-executor", "timeout_minutes": 0.001}
    arguments = ("--input", json.dumps({"agents": [step, "quality-gate"]}), "--json")

    first, second = job(*arguments), job(*arguments)

    assert (first.code, second.code) == (3, 3), first.err
    assert "::error title=qe%3A the run failed::test-executor#0 failed" in first.err
    assert first.json["workflow_id"] == second.json["workflow_id"]
    assert "is run again" in second.err
    assert set(report(tmp_path)) == {"report.html", "report.md", "result.json", "junit.xml", "results.sarif"}
    check_junit(report(tmp_path)["junit.xml"])
    log = check_sarif(report(tmp_path)["results.sarif"])
    assert log["runs"][0]["invocations"] == [{"executionSuccessful": False}]


def test_diff_mode_gates_what_changed_alone(
    job: Callable[..., Ended], repository: Path, tmp_path: Path
) -> None:
    """Old failures and old gaps are forgiven, a new function without a test is not."""
    git(repository, "checkout", "--quiet", "main")
    commit(repository, test_sums=_TESTS + _OLD_FAILURE)
    git(repository, "checkout", "--quiet", "-B", "work")
    new = "\n\ndef twice(a):\n    return add(a, a)\n\n\ndef thrice(a):\n    return 3 * a\n"
    test = (
        _TESTS.replace("import add", "import add, twice")
        + "\n\ndef test_twice():\n    assert twice(2) == 4\n"
    )
    commit(repository, sums=_SUMS + new, test_sums=test + _OLD_FAILURE)

    ended = job(*_MEASURE, "--base", "main", "--threshold", "line_percent_min=76", "--json")

    assert (ended.code, ended.json["result"]["decision"]) == (0, "CONDITIONAL"), ended.err
    figures = ended.json["result"]["steps"][-1]["measured"]["metrics"]
    names = ("tests.failed", "tests.failed_before", "diff.lines_total", "diff.line_percent")
    assert [figures[name]["value"] for name in names] == [1, 1, 4, 75]
    assert "::warning file=sums.py,line=16,endLine=16,title=change without a test::" in ended.err
    check_files(report(tmp_path))

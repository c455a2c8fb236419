"""The measuring tools on a small planted project, in the real sandbox."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from planted_project import write_project

from qefleet.contracts.coverage import CoverageTotals
from qefleet.contracts.execution import SuiteCounts, SuiteOutcome
from qefleet.contracts.generation import Filter, GenerationState, Segment
from qefleet.testing.ground import LocalGround
from qefleet.tools.generation.candidates import JudgeLimits, Judgement, begin_generation, judge_proposal
from qefleet.tools.generation.ghostwriter import ghostwrite
from qefleet.tools.generation.keep import kept_files
from qefleet.tools.generation.mutants import MutantRun, make_mutants, run_mutants
from qefleet.tools.generation.segments import find_segments
from qefleet.tools.project import read_layout
from qefleet.tools.running.suite import run_suite, suite_metrics
from qefleet.tools.source_tree import read_source
from qefleet.workspace.sandbox import Sandbox

_MODULE = '''"""Planted."""


def covered(x):
    return x + 1


def grade(points: int) -> str:
    if points >= 90:
        return "A"
    if points >= 80:
        return "B"
    return "C"


def tidy(text: str) -> str:
    return " ".join(text.split())


_SEEN: list[int] = []


def once(x):
    """Fails when it is called twice in one process."""
    _SEEN.append(x)
    assert len(_SEEN) == 1
    return x
'''
_TESTS = "from planted.mod import covered\n\n\ndef test_covered():\n    assert covered(1) == 2\n"
_PYPROJECT = """
[tool.pytest.ini_options]
addopts = "--strict-markers"
testpaths = ["tests"]
"""


_FILES = {
    "pyproject.toml": _PYPROJECT,
    "planted/__init__.py": "",
    "planted/mod.py": _MODULE,
    "tests/test_mod.py": _TESTS,
}


@pytest.fixture
def ground(tmp_path: Path, environment: Path, sandbox: Sandbox) -> LocalGround:
    """The planted project, to be changed by the test."""
    return LocalGround(write_project(tmp_path / "project", _FILES), environment, sandbox)


@dataclass(frozen=True)
class Begun:
    """The planted project as it is, measured once for all tests that only read it."""

    ground: LocalGround
    state: GenerationState
    segments: dict[str, Segment]

    async def judge(self, qualname: str, proposal: str, **limits: float) -> Judgement:
        few = JudgeLimits(runs=2)
        return await judge_proposal(
            self.ground, self.segments[qualname], proposal, self.state, limits=replace(few, **limits)
        )


async def _begin(ground: LocalGround) -> Begun:
    state = await begin_generation(ground, await run_suite(ground, coverage=True))
    segments = find_segments(ground.project, state.open_lines, state.open_branches)
    return Begun(ground, state, {segment.qualname: segment for segment in segments})


@pytest.fixture(scope="module")
async def begun(tmp_path_factory: pytest.TempPathFactory, environment: Path, sandbox: Sandbox) -> Begun:
    project = write_project(tmp_path_factory.mktemp("begun") / "project", _FILES)
    return await _begin(LocalGround(project, environment, sandbox))


async def test_a_suite_is_measured_with_its_coverage(ground: LocalGround) -> None:
    """Counts, totals, gaps, the command for a person, and reports under the hashes that the run names."""
    run = await run_suite(ground, coverage=True)

    assert run.coverage is not None
    assert (run.details.outcome, run.details.counts) == (SuiteOutcome.PASSED, SuiteCounts(total=1, passed=1))
    assert run.details.command == "coverage run --branch --source=planted -m pytest"
    assert run.coverage.totals == CoverageTotals(
        lines_covered=6, lines_total=15, branches_covered=0, branches_total=4
    )
    kept = {reference.name: reference.digest for reference, _ in run.artifacts}
    assert {"junit.xml", "coverage.json", "coverage.xml", "coverage.lcov"} <= kept.keys()
    assert [tool.artifact and tool.artifact.digest for tool in run.tools] == [
        kept["junit.xml"],
        kept["coverage.json"],
    ]


@pytest.mark.parametrize(
    ("test", "outcome"),
    [
        ("def test_a():\n    assert 1 == 2\n", SuiteOutcome.FAILED),
        ("import planted.nothing\n", SuiteOutcome.COLLECTION_FAILED),
        ("x = 1\n", SuiteOutcome.NO_TESTS),
        ("import os\ndef test_a():\n    os._exit(0)\n", SuiteOutcome.UNREPORTED),
        ("import pytest\ndef test_a():\n    pytest.exit('x', returncode=0)\n", SuiteOutcome.UNREPORTED),
        (
            "import os, signal\ndef test_a():\n    os.kill(os.getpid(), signal.SIGKILL)\n",
            SuiteOutcome.UNREPORTED,
        ),
    ],
)
async def test_a_suite_that_does_not_pass_is_told_by_its_kind(
    ground: LocalGround, test: str, outcome: SuiteOutcome
) -> None:
    """An exit code of success without an agreeing report is no pass."""
    write_project(ground.project, {"tests/test_mod.py": test})

    run = await run_suite(ground, coverage=False)

    assert run.details.outcome is outcome
    assert not run.green
    assert run.tools[0].version[0].isdigit(), "the run itself has to work"


async def test_a_suite_that_hangs_is_stopped_and_not_measured(ground: LocalGround) -> None:
    """No figure of a run that came to no end counts."""
    write_project(ground.project, {"tests/test_mod.py": "import time\ndef test_a():\n    time.sleep(600)\n"})

    run = await run_suite(ground, coverage=False, timeout_s=3)

    assert run.details.outcome is SuiteOutcome.TIMED_OUT
    assert {metric.kind for metric in suite_metrics(run).values()} == {"unmeasured"}


async def test_failing_tests_are_named_as_pytest_takes_them(ground: LocalGround) -> None:
    """A node id from the result runs that test alone."""
    source = (
        "import pytest\n\n\nclass TestX:\n    @pytest.mark.parametrize('x', [1, 2])\n"
        "    def test_a(self, x):\n        assert x == 1\n"
    )
    write_project(ground.project, {"tests/test_mod.py": source})

    whole = await run_suite(ground, coverage=False)
    alone = await run_suite(ground, coverage=False, only=sorted(whole.failing_ids))

    assert whole.failing_ids == {"tests/test_mod.py::TestX::test_a[2]"}
    assert alone.details.counts == SuiteCounts(total=1, failed=1)


async def test_random_order_is_repeatable(ground: LocalGround) -> None:
    """A seed stands for one order, and another seed for another."""
    source = "seen = []\n" + "".join(
        f"def test_{n}():\n    seen.append({n})\n    assert len(seen) < 8 or print(seen)\n" for n in range(8)
    )
    write_project(ground.project, {"tests/test_mod.py": source})

    runs = [await run_suite(ground, coverage=False, order_seed=seed) for seed in (1, 1, 2)]

    first, second, third = (sorted(run.failing_ids) for run in runs)
    assert len(first) == len(third) == 1
    assert first == second


async def test_good_tests_are_kept_and_bad_ones_rejected_by_the_right_filter(begun: Begun) -> None:
    """One proposal with every kind: each test is judged by itself, and each rejection names its filter."""
    proposal = """
import os, socket
import pytest
from planted.mod import grade

def test_says_too_little():
    assert isinstance(grade(95), str)

def test_good():
    assert grade(95) == "A"

def test_also_good():
    assert grade(85) == "B"
    assert grade(10) == "C"

def test_adds_nothing():
    assert grade(99) == "A"

def test_wrong():
    assert grade(10) == "F"

def test_asserts_nothing():
    grade(10)

def test_network():
    assert socket.create_connection(("192.0.2.1", 80), timeout=2)

def test_exits():
    assert grade(10) == "C"
    os._exit(0)

def test_ends_pytest():
    assert grade(10) == "C"
    pytest.exit("done", returncode=0)

def test_deletes():
    assert grade(10) == "C"
    os.remove("/src/tests/test_mod.py")

def test_skips_silently():
    assert grade(10) == "C"
    raise getattr(pytest, "s" + "kip").Exception("later")

@pytest.mark.xfail
def test_expected_to_fail():
    assert grade(10) == "F"
"""

    judged = await begun.judge("grade", proposal, runs=5)

    assert {verdict.test: verdict.filter for verdict in judged.verdicts} == {
        "test_says_too_little": Filter.MUTANTS,
        "test_good": None,
        "test_also_good": None,
        "test_adds_nothing": Filter.GAIN,
        "test_wrong": Filter.RUNS,
        "test_asserts_nothing": Filter.STATIC,
        "test_network": Filter.STATIC,
        "test_exits": Filter.REPORT,
        "test_ends_pytest": Filter.REPORT,
        "test_deletes": Filter.STATIC,
        "test_skips_silently": Filter.REPORT,
        "test_expected_to_fail": Filter.STATIC,
    }
    assert [test.name for test in judged.state.kept] == ["test_good", "test_also_good"]
    assert (judged.state.proposed, sum(judged.state.rejected.values())) == (12, 10)


async def test_what_is_kept_adds_up_to_what_is_measured(begun: Begun) -> None:
    """The accumulated state and a run of the whole suite with the merged files agree line by line."""
    proposal = "def test_a():\n    assert grade(95) == 'A'\n\ndef test_b():\n    assert grade(1) == 'C'\n"

    state = (await begun.judge("grade", proposal)).state
    files = kept_files(begun.ground.project, read_layout(begun.ground.project), state.kept)
    laid = {path: text.encode() for path, text in files.items()}
    after = await run_suite(begun.ground, coverage=True, files=laid)

    assert after.coverage is not None
    assert after.details.counts == SuiteCounts(total=3, passed=3)
    (mod,) = (file for file in after.coverage.files if file.path == "planted/mod.py")
    assert (mod.missing_lines, mod.missing_branches) == (
        state.open_lines["planted/mod.py"],
        state.open_branches["planted/mod.py"],
    )


async def test_an_endless_test_is_stopped_at_its_limit(begun: Begun) -> None:
    """A loop costs its time limit once, and its reason says so."""
    proposal = "def test_a():\n    while grade(1):\n        pass\n    assert grade(1) == 1\n"

    judged = await begun.judge("grade", proposal, cpu_s=2)

    (verdict,) = judged.verdicts
    assert (verdict.filter, verdict.runs, verdict.reason) == (
        Filter.RUNS,
        1,
        "it did not end within 2 seconds of processor time",
    )


async def test_a_test_that_waits_forever_is_stopped_at_its_limit(begun: Begun) -> None:
    """Waiting uses no processor time; the wall clock ends it."""
    proposal = "import time\n\ndef test_a():\n    time.sleep(600)\n    assert grade(1) == 'C'\n"

    judged = await begun.judge("grade", proposal, wall_s=10)

    (verdict,) = judged.verdicts
    assert (verdict.filter, verdict.reason) == (Filter.RUNS, "it did not end within 10 seconds")


async def test_tests_that_break_the_suite_together_are_told_apart(begun: Begun) -> None:
    """Each passes alone; the second one of the suite fails, and only that one is rejected."""
    proposal = (
        "def test_a():\n    assert once(1) == 1\n\n"
        "def test_b():\n    assert once(2) == 2 and tidy(' a') == 'a'\n"
    )
    own_order = replace(begun, state=begun.state.model_copy(update={"order_seed": None}))

    judged = await own_order.judge("once", proposal)

    assert [(verdict.test, verdict.filter) for verdict in judged.verdicts] == [
        ("test_a", None),
        ("test_b", Filter.SUITE),
    ]


async def test_a_wrong_import_of_the_right_name_is_mended(begun: Begun) -> None:
    """What exists in the module under test is imported from there, whatever the proposal guessed."""
    proposal = "from your_module import tidy\n\ndef test_a():\n    assert tidy(' a  b ') == 'a b'\n"

    judged = await begun.judge("tidy", proposal)

    assert [test.imports for test in judged.state.kept] == [["from planted.mod import tidy"]]


async def test_an_import_that_resolves_nowhere_is_rejected(begun: Begun) -> None:
    """The first filter asks the target's own environment."""
    proposal = "import no_such_thing\n\ndef test_a():\n    assert tidy(no_such_thing.x) == 'a'\n"

    judged = await begun.judge("tidy", proposal)

    assert [(v.filter, "no_such_thing" in v.reason) for v in judged.verdicts] == [(Filter.STATIC, True)]


async def test_generation_over_a_red_base_allows_the_old_failures(ground: LocalGround) -> None:
    """A test that failed before may go on failing; nothing else may."""
    write_project(ground.project, {"tests/test_red.py": "def test_red():\n    assert 0\n"})
    begun = await _begin(ground)

    judged = await begun.judge("tidy", "def test_a():\n    assert tidy(' a ') == 'a'\n")

    assert begun.state.base_failing == ["tests/test_red.py::test_red"]
    assert [verdict.kept for verdict in judged.verdicts] == [True]


async def test_mutants_run_against_a_control(begun: Begun) -> None:
    """Killed and survived are told apart, and nothing is measured when the tests fail without mutation."""
    tree = read_source(begun.ground.project / "planted/mod.py")
    assert tree is not None
    mutants = await make_mutants(tree, "planted/mod.py", [9, 10])
    path = "tests/test_new.py"
    runs: list[MutantRun] = []
    for body in ("assert grade(90) == 'A'", "assert grade(99)", "assert grade(1) == 'A'"):
        test = f"from planted.mod import grade\ndef test_a():\n    {body}\n"
        options = ["-p", "no:cacheprovider", "-p", "no:hypothesispytest", path]
        runs.append(await run_mutants(begun.ground, options, tree, mutants, files={path: test.encode()}))

    sharp, blunt, wrong = runs
    assert set(sharp.fates) <= {"killed", "survived"}
    assert sharp.killed > blunt.killed == 0 == len(wrong.fates)
    assert wrong.problem == "the tests fail on the unmutated source"


async def test_the_ghostwriter_proposes_without_a_model(begun: Begun) -> None:
    """Its idempotence test of an idempotent function passes all filters; its crash oracle asserts nothing."""
    texts = await ghostwrite(begun.ground, begun.segments["tidy"])

    judged = [await begun.judge("tidy", text, mutants=3) for text in texts]

    verdicts = {verdict.test: verdict.filter for found in judged for verdict in found.verdicts}
    assert verdicts == {"test_idempotent_tidy": None, "test_fuzz_tidy": Filter.STATIC}

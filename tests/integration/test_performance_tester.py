"""performance-tester on systems and benchmarks of our own making, whose speed is known."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Generator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from statistics import median
from typing import Any

import pytest
from agent_context import Alone, measure_alone
from planted_project import write_project
from planted_servers import WEB

from qefleet.agents.performance_tester import PERFORMANCE_TESTER
from qefleet.contracts.performance import PathLoad, PerformanceDetails
from qefleet.errors import InvalidInput
from qefleet.testing.broken import WAYS, BrokenTools, Way
from qefleet.testing.ground import LocalGround
from qefleet.tools.program import Tool
from qefleet.tools.systems import load
from qefleet.tools.systems.benchmarks import Timing, Timings, compare
from qefleet.tools.systems.load import percentile, read_loads
from qefleet.workspace.sandbox import Sandbox

_COMMAND = {"command": ["{python}", "web.py", "8000"], "port": 8000}
_BENCHMARK = """
import time

PAUSE_S = {pause}


def test_planted(benchmark):
    benchmark.pedantic(time.sleep, args=(PAUSE_S,), rounds=20)


def test_steady(benchmark):
    benchmark.pedantic(time.sleep, args=(0.004,), rounds=20)


def test_no_benchmark():
    raise AssertionError("only benchmarks are run")
"""


@pytest.fixture
def ground(tmp_path: Path, environment: Path, sandbox: Sandbox) -> LocalGround:
    return LocalGround(write_project(tmp_path / "project", {"web.py": WEB}), environment, sandbox)


@pytest.fixture(scope="module")
def benchmarking(environment: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The environment, with pytest-benchmark."""
    folder = tmp_path_factory.mktemp("benchmarking") / "environment"
    shutil.copytree(environment, folder, symlinks=True)
    folder.parent.chmod(0o755)
    (packages,) = folder.glob("lib/python*/site-packages")
    for name in ("pytest-benchmark", "py-cpuinfo2"):
        for file in metadata.files(name) or ():
            if ".." not in file.parts:
                (packages / file).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(file.locate(), packages / file)
    return folder


@contextmanager
def _running(project: Path, port: int) -> Generator[str]:
    """The planted server outside of the sandbox."""
    with subprocess.Popen([sys.executable, "web.py", str(port)], cwd=project) as server:
        try:
            for _ in range(200):
                try:
                    with urllib.request.urlopen(f"http://127.0.0.1:{port}/fast"):
                        break
                except OSError:
                    time.sleep(0.05)
            yield f"http://127.0.0.1:{port}"
        finally:
            server.kill()


def _time_ms(url: str) -> float:
    started = time.perf_counter()
    with urllib.request.urlopen(url):
        return 1000 * (time.perf_counter() - started)


def _paths(found: Alone) -> dict[str, PathLoad]:
    return {path.id: path for path in PerformanceDetails.model_validate(found.details).paths}


async def _load(ground: Any, **options: Any) -> Alone:
    return await measure_alone(PERFORMANCE_TESTER, ground, options={**_COMMAND, "duration_s": 2, **options})


async def test_a_planted_delay_is_found_on_its_path(ground: LocalGround) -> None:
    """100 ms on one path alone, as our own client outside measures it; the function that waits is named."""
    with _running(ground.project, 18471) as origin:
        times = [_time_ms(f"{origin}/slow") for _ in range(10)]

    found = await _load(ground, paths=["/slow", "/fast"], thresholds={"p95_ms": 80})

    slow, fast = _paths(found)["GET /slow"], _paths(found)["GET /fast"]
    assert slow.p50_ms >= 100
    assert slow.p50_ms == pytest.approx(median(times), rel=0.25)
    assert fast.p50_ms < 50
    assert (slow.over, fast.over) == (["p95_ms"], [])
    assert found.value("performance.over_threshold") == 1
    assert found.evidence == [
        {"id": "p95_ms of GET /slow", "kind": "p95_ms"},
        {
            "id": f"web.py:{WEB.splitlines().index('def slow():') + 1} in slow",
            "kind": "function under load",
            "share": "half or more",
        },
        *found.evidence[2:],
    ]
    assert found.details["issues"][0]["id"] == "p95_ms of GET /slow"


async def test_planted_errors_are_counted_exactly(ground: LocalGround) -> None:
    """Every tenth request of one path fails; every request that was sent is in the figures."""
    found = await _load(ground, paths=[{"path": "/broken", "weight": 3}, "/fast"], wait_s=0.02, profile=False)

    broken, fast = _paths(found)["GET /broken"], _paths(found)["GET /fast"]
    assert broken.requests > 100
    assert (broken.failures, fast.failures) == (broken.requests // 10, 0)
    assert broken.over == ["error_percent"]
    total = 100 * broken.failures / (broken.requests + fast.requests)
    assert found.value("performance.error_percent") == pytest.approx(total)


async def test_a_clean_system_is_within_its_thresholds(ground: LocalGround) -> None:
    """Nothing is found, and nothing is to be judged; redirects are answers, and not followed."""
    found = await _load(ground, paths=["/fast", "/away"], thresholds={"p95_ms": 500}, duration_s=1)

    assert found.value("performance.over_threshold") == 0
    assert (found.evidence, found.details["issues"], found.details["profile"]) == (None, [], [])
    assert found.value("performance.error_percent") == 0
    assert 0 < (found.value("performance.rps") or 0) < 100


async def test_our_code_around_locust_takes_little_time(ground: LocalGround) -> None:
    """Below 200 ms or 5 %, whichever is more; other work on the machine may need a second look."""
    seen: list[float] = []
    for _ in range(3):
        found = await _load(ground, paths=["/fast"], duration_s=2)
        seen.append(found.overhead_s / max(0.2, 0.05 * found.took_s))
        if seen[-1] < 1:
            return
    if os.getloadavg()[0] > 2 * (os.cpu_count() or 1):
        pytest.skip("this machine is too busy to tell")
    pytest.fail(f"so many times what it may take: {seen}")


async def test_a_system_elsewhere_has_to_be_allowed(ground: LocalGround) -> None:
    """Its host is named by the worker's owner, with or without the port; redirects lead nowhere."""
    with _running(ground.project, 18472) as origin:
        found = await measure_alone(
            PERFORMANCE_TESTER,
            ground,
            options={"url": origin, "paths": ["/away"], "duration_s": 1},
            allowed_hosts=frozenset({"127.0.0.1:18472"}),
        )
    gone = await measure_alone(
        PERFORMANCE_TESTER,
        ground,
        options={"url": origin, "duration_s": 1},
        allowed_hosts=frozenset({"127.0.0.1"}),
    )
    options = {"url": origin, "duration_s": 1}
    with pytest.raises(InvalidInput, match=r"^options\.url: .*QE_ALLOWED_HOSTS"):
        await measure_alone(
            PERFORMANCE_TESTER,
            ground,
            options=options,
            allowed_hosts=frozenset({"127.0.0.1:80", "example.org"}),
        )

    assert found.value("performance.error_percent") == 0
    assert (found.value("performance.rps") or 0) > 0
    assert gone.value("performance.error_percent") == 100


async def test_without_a_system_and_benchmarks_nothing_is_asked(ground: LocalGround) -> None:
    found = await measure_alone(PERFORMANCE_TESTER, ground)

    assert found.finding.measurement.metrics == {}
    assert found.finding.headline.startswith("nothing to measure")


async def test_a_system_that_does_not_start_is_not_measured(ground: LocalGround) -> None:
    """The reason has the end of what it printed."""
    ended = await _load(ground, command=["{python}", "-c", "raise SystemExit('no database')"])
    silent = await _load(ground, port=8001, ready_s=0.5)
    absent = await _load(ground, command=["no-such-program"])

    assert ended.reason("performance.p95_ms").endswith("ended before it answered on port 8000: no database")
    assert "didn't answer on port 8001 within 0.5 s" in silent.reason("performance.over_threshold")
    assert "can't be started" in absent.reason("performance.rps")


@pytest.mark.parametrize("way", WAYS)
async def test_broken_locust_measures_nothing(ground: LocalGround, way: Way) -> None:
    found = await _load(BrokenTools(ground, "locust", way), paths=["/fast"])

    said = {"crashing": "exit code 139", "hanging": "limit of time", "rubbish": "can't be read"}
    assert said.get(way, "left no report") in found.reason("performance.p50_ms")
    assert found.reason("performance.over_threshold") == found.reason("performance.p50_ms")


async def test_missing_locust_says_how_to_install_it(
    ground: LocalGround, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load, "LOCUST", Tool(name="locust", distribution="no-such", extra="performance"))
    found = await _load(ground)

    assert "pip install 'qefleet[performance]'" in found.reason("performance.p95_ms")


async def _timed(ground: LocalGround, pause_s: float, last: Alone | None = None) -> Alone:
    write_project(ground.project, {"tests/test_speed.py": _BENCHMARK.format(pause=pause_s)})
    result = last.result(PERFORMANCE_TESTER) if last else None
    kept = last.artifacts if last else None
    return await measure_alone(PERFORMANCE_TESTER, ground, last=result, artifacts=kept)


async def test_a_benchmark_that_became_slower_is_found(ground: LocalGround, benchmarking: Path) -> None:
    """The one with the planted pause, in its file; the other, and both when nothing has changed, are not."""
    ground = LocalGround(ground.project, benchmarking, ground.sandbox)

    first = await _timed(ground, 0.004)
    same = await _timed(ground, 0.004, first)
    slow = await _timed(ground, 0.008, same)

    assert "performance.regressions" not in first.finding.measurement.metrics
    assert first.value("performance.benchmarks") == 2
    assert (same.value("performance.regressions"), same.evidence) == (0, None)
    assert slow.value("performance.regressions") == 1
    assert [(issue["id"], issue["path"]) for issue in slow.details["issues"]] == [
        ("tests/test_speed.py::test_planted", "tests/test_speed.py")
    ]
    planted = slow.details["benchmarks"][0]
    assert 8 <= planted["median_ms"] < 10
    assert 4 <= planted["before_ms"] < 6
    assert slow.finding.measurement.tools[0].tool == "pytest-benchmark"
    assert slow.finding.measurement.tools[0].version == metadata.version("pytest-benchmark")


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        ("os.kill(os.getpid(), 11)", "exit code 139"),
        ("import time; time.sleep(60)", "limit of time"),
        ("open('/out/benchmark.json', 'w').write('}{'); os._exit(0)", "can't be read"),
        ("os._exit(0)", "left no report"),
    ],
)
async def test_a_broken_run_of_benchmarks_measures_nothing(
    ground: LocalGround, benchmarking: Path, broken: str, said: str
) -> None:
    files = {"tests/test_speed.py": _BENCHMARK.format(pause=0.001), "conftest.py": f"import os\n{broken}\n"}
    write_project(ground.project, files)
    ground = LocalGround(ground.project, benchmarking, ground.sandbox)

    found = await measure_alone(PERFORMANCE_TESTER, ground, options={"timeout_s": 1.5})

    assert said in found.reason("performance.regressions")


async def test_benchmarks_without_their_plug_in_are_not_measured(ground: LocalGround) -> None:
    write_project(ground.project, {"tests/test_speed.py": _BENCHMARK.format(pause=0.001)})

    found = await measure_alone(PERFORMANCE_TESTER, ground)

    assert "pytest-benchmark isn't among" in found.reason("performance.benchmarks")


def test_figures_come_from_all_requests() -> None:
    """Percentiles by nearest rank, of one path and of all of them."""

    def entry(name: str, times: dict[str, int], failures: int) -> dict[str, Any]:
        return {
            "name": name,
            "method": "GET",
            "start_time": 100.0,
            "last_request_timestamp": 110.0,
            "num_requests": sum(times.values()),
            "num_failures": failures,
            "response_times": times,
        }

    content = json.dumps([entry("/b", {"1": 90, "400": 10}, 5), entry("/a", {"2": 100}, 0)]).encode()

    a, b, total = read_loads(content, duration_s=5)

    assert (a.id, a.p50_ms, a.p99_ms, a.rps) == ("GET /a", 2, 2, 10)
    assert (b.p50_ms, b.p95_ms, b.error_percent) == (1, 400, 5)
    assert (total.id, total.p50_ms, total.p95_ms, total.p99_ms, total.error_percent) == (
        "all",
        2,
        2,
        400,
        2.5,
    )
    assert percentile({5.0: 1}, 99) == 5


@pytest.mark.parametrize(
    ("now", "machine", "regressed"),
    [
        (Timing(median=1.3, q1=1.25, q3=1.4, iqr=0.15), "m", True),
        (Timing(median=1.1, q1=1.09, q3=1.2, iqr=0.11), "m", False),  # within the threshold
        (Timing(median=1.3, q1=1.04, q3=1.4, iqr=0.36), "m", False),  # within the noise
        (Timing(median=1.3, q1=1.25, q3=1.4, iqr=0.15), "another", False),
    ],
)
def test_slower_is_beyond_threshold_and_noise(now: Timing, machine: str, regressed: bool) -> None:
    before = Timings("m", "5", {"t": Timing(median=1.0, q1=0.95, q3=1.05, iqr=0.1)})

    (benchmark,) = compare(Timings(machine, "5", {"t": now}), before, percent=20)

    assert benchmark.regressed is regressed

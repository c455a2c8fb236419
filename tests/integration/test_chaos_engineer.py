"""chaos-engineer on systems of our own making: a store, and a front that retries or does not."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from agent_context import Alone, measure_alone
from planted_project import write_project
from planted_servers import FRONT, STORE, SUPERVISOR

from qefleet.agents.catalogue import built_in
from qefleet.agents.chaos_engineer import (
    CHAOS_ENGINEER,
    ChaosEngineerOptions,
    ChaosProbe,
    usual_experiments,
    with_ids,
)
from qefleet.agents.checks import check_options
from qefleet.contracts.chaos import ChaosDetails, ExperimentResult, PhaseFigures, Record, Sample
from qefleet.errors import InvalidInput
from qefleet.testing.broken import WAYS, BrokenTools, Way
from qefleet.testing.ground import LocalGround
from qefleet.tools.systems.chaos import result_of
from qefleet.workspace.sandbox import Sandbox

_FILES = {"store.py": STORE, "front.py": FRONT, "supervisor.py": SUPERVISOR}


@pytest.fixture
def ground(tmp_path: Path, environment: Path, sandbox: Sandbox) -> LocalGround:
    return LocalGround(write_project(tmp_path / "project", _FILES), environment, sandbox)


def _services(*, tries: int = 1, store: tuple[str, ...] = ("store.py", "{port}")) -> dict[str, Any]:
    return {
        "store": {"command": ["{python}", *store], "port": 5001},
        "front": {"command": ["{python}", "front.py", "{port}", str(tries)], "port": 5000},
    }


async def _experiments(ground: Any, *experiments: dict[str, Any], **options: Any) -> Alone:
    probes = [{"service": "front", "path": path, "timeout_s": 2} for path in ("/item", "/health")]
    quick = {"services": _services(), "probes": probes, "before_s": 0.5, "recovery_max_s": 5}
    asked = [{"service": "store", "duration_s": 1, **it} for it in experiments]
    return await measure_alone(CHAOS_ENGINEER, ground, options={**quick, "experiments": asked, **options})


def _results(found: Alone) -> list[ExperimentResult]:
    return ChaosDetails.model_validate(found.details).experiments


def _median_ms(phase: PhaseFigures | None) -> float:
    assert phase
    assert phase.median_ms is not None
    return phase.median_ms


_RESET = {"fault": "reset", "every": 2}


async def test_a_retry_holds_where_every_second_connection_is_reset(ground: LocalGround) -> None:
    """Nothing is found in the system that retries."""
    found = await _experiments(ground, _RESET, services=_services(tries=2))

    (result,) = _results(found)
    assert (result.id, result.held, result.recovered, result.recovery_s) == ("reset-store", True, True, 0)
    assert (result.blast_radius, result.blast_radius_percent) == ([], 0)
    assert found.value("chaos.hypotheses_held") == 1
    assert found.details["issues"] == []


async def test_without_a_retry_one_half_fails(ground: LocalGround) -> None:
    """The blast radius is the path that needs the store: each second request of it, and none of the other."""
    found = await _experiments(ground, _RESET)

    (result,) = _results(found)
    assert (result.held, result.recovered, result.blast_radius) == (False, True, ["front/item"])
    assert result.blast_radius_percent == pytest.approx(25, abs=5)
    assert found.value("chaos.blast_radius_percent_max") == result.blast_radius_percent
    assert [(issue["id"], issue["rule"]) for issue in found.details["issues"]] == [
        ("reset-store", "steady-state")
    ]
    assert found.evidence[0]["how they failed"] == ["status 503"]


async def test_a_delay_is_seen_by_the_probe(ground: LocalGround) -> None:
    """100 ms more than before, which is a bad answer only where the probe has a limit; gone afterwards."""
    probe = {"service": "front", "path": "/item"}
    loose = await _experiments(ground, {"fault": "delay"}, probes=[probe])
    (seen,) = _results(loose)
    before, during, after = (_median_ms(phase) for phase in (seen.before, seen.during, seen.after))

    strict = await _experiments(
        ground, {"fault": "delay", "delay_ms": 400}, probes=[{**probe, "max_latency_ms": 350}]
    )

    assert during >= 100
    assert during - before == pytest.approx(100, abs=30)
    assert after - before < 40
    assert seen.held
    (slow,) = _results(strict)
    assert not slow.held
    assert strict.evidence[0]["how they failed"] == ["slower than 350 ms"]


async def test_recovery_takes_as_long_as_the_store_needs_to_start(ground: LocalGround) -> None:
    """Planted: a second before it listens, besides the interpreter's own start."""
    found = await _experiments(
        ground,
        {"fault": "kill", "restart": True, "duration_s": 0.5},
        services=_services(store=("store.py", "{port}", "1")),
    )

    (result,) = _results(found)
    assert (result.held, result.recovered) == (False, True)
    assert found.value("chaos.recovery_s_max") == result.recovery_s
    assert 1.0 <= (result.recovery_s or 0) < 2.0
    assert found.value("chaos.not_recovered") == 0


async def test_a_killed_store_that_nobody_starts_anew_is_not_recovered(ground: LocalGround) -> None:
    """One that its supervisor starts anew is: only the process that listens is killed."""
    kill = {"fault": "kill", "duration_s": 0.5}
    lost = await _experiments(ground, kill, recovery_max_s=1)
    supervised = _services(store=("supervisor.py", "{port}"))
    back = await _experiments(ground, {**kill, "duration_s": 2}, services=supervised)

    assert (lost.value("chaos.recovered"), lost.value("chaos.not_recovered")) == (0, 1)
    assert "did not recover" in lost.reason("chaos.recovery_s_max")
    assert [(issue["rule"], issue["severity"]) for issue in lost.details["issues"]] == [
        ("not-recovered", "high")
    ]
    (result,) = _results(back)
    assert result.recovered
    assert 0.5 <= (result.recovery_s or 0) < 1.7


async def test_a_fault_is_stopped_when_too_many_probes_fail(ground: LocalGround) -> None:
    """Long before its time; once it is over the system recovers."""
    found = await _experiments(
        ground, {"fault": "reset", "duration_s": 60}, blast_radius_max_percent=30, probes=[]
    )

    (result,) = _results(found)
    assert (result.stopped, result.recovered, found.value("chaos.stopped")) == (True, True, 1)
    assert result.timeline[-1].from_s < 20


async def test_a_cut_holds_answers_back(ground: LocalGround) -> None:
    """The front gives up waiting for its store."""
    found = await _experiments(ground, {"fault": "cut"})

    (result,) = _results(found)
    assert (result.held, result.recovered, result.blast_radius) == (False, True, ["front/item"])


async def test_a_system_that_is_not_steady_before_says_nothing(ground: LocalGround) -> None:
    """Nor does one that can't be started; nothing is counted then, and the gate fails."""
    absent = [{"service": "front", "path": "/", "status": 204}]
    unsteady = await _experiments(ground, {"fault": "cut"}, probes=absent)
    unable = await _experiments(
        ground, {"fault": "cut"}, services=_services(store=("-c", "exit('no disk {port}')"))
    )

    assert "no steady state before the fault: status 200" in unsteady.reason("chaos.not_recovered")
    assert "store ended before it answered" in unable.reason("chaos.not_recovered")
    assert "no disk" in unable.reason("chaos.experiments")


async def test_our_code_around_an_experiment_takes_little_time(ground: LocalGround) -> None:
    """Below 200 ms or 5 %, whichever is more; other work on the machine may need a second look."""
    seen: list[float] = []
    for _ in range(3):
        found = await _experiments(ground, {"fault": "delay", "duration_s": 0.5})
        seen.append(found.overhead_s / max(0.2, 0.05 * found.took_s))
        if seen[-1] < 1:
            return
    if os.getloadavg()[0] > 2 * (os.cpu_count() or 1):
        pytest.skip("this machine is too busy to tell")
    pytest.fail(f"so many times what it may take: {seen}")


async def test_without_a_system_nothing_is_asked(ground: LocalGround) -> None:
    found = await measure_alone(CHAOS_ENGINEER, ground)

    assert found.finding.measurement.metrics == {}
    assert found.finding.headline.startswith("no system given")


@pytest.mark.parametrize("way", WAYS)
async def test_our_own_program_broken_measures_nothing(ground: LocalGround, way: Way) -> None:
    found = await _experiments(BrokenTools(ground, "qe_chaos", way), {"fault": "cut"})

    said = {"crashing": "exit code 139", "hanging": "limit of time", "rubbish": "can't be read"}
    assert said.get(way, "left no report") in found.reason("chaos.not_recovered")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"services": {"a": {"command": ["a"], "port": 1}}}, "put {port} where the service takes its port"),
        ({"experiments": [{"fault": "cut", "service": "b"}]}, "no such service: b"),
    ],
)
def test_options_are_checked_when_a_run_opens(options: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidInput, match=said.replace("{", r"\{")):
        check_options(built_in().get("chaos-engineer"), options, field="agents.0.options")


def test_usual_experiments_do_not_break_what_is_probed() -> None:
    """Resets between services; each service is slowed down, and killed and started anew."""
    options = ChaosEngineerOptions.model_validate({"services": _services()})
    probes = [ChaosProbe(service="front")]

    usual = with_ids(usual_experiments(options, probes))

    assert [it.id for it in usual] == [
        "delay-store",
        "reset-store",
        "kill-store",
        "delay-front",
        "kill-front",
    ]


def test_recovery_begins_with_the_faults_end() -> None:
    """And ends with the first good answer after the last bad one."""

    def sample(t_s: float, wrong: str = "") -> Sample:
        phase = "before" if t_s < 1 else "during" if t_s < 2 else "after"
        return Sample(t_s=t_s, phase=phase, probe="p", ms=100, wrong=wrong)

    samples = [sample(0), sample(1, "bad"), sample(2.1, "bad"), sample(2.2), sample(2.4, "bad"), sample(2.9)]
    record = Record(id="x", samples=samples, fault_s=1, healed_s=2, steady_again=True)

    result = result_of(record, "cut", "store", tolerated_percent=0)

    assert result.recovery_s == pytest.approx(1.0)
    assert result.blast_radius_percent == 100
    assert [(span.phase, span.count, span.wrong) for span in result.timeline] == [
        ("before", 1, ""),
        ("during", 1, "bad"),
        ("after", 1, "bad"),
        ("after", 1, ""),
        ("after", 1, "bad"),
        ("after", 1, ""),
    ]

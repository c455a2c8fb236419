"""Logs made by a generator that counts what it writes, and a history of reports, read in the real sandbox."""

from __future__ import annotations

import json
import math
import random
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from agent_context import Alone, measure_alone
from planted_project import write_project

from qefleet.agents.checks import undeclared
from qefleet.agents.incidents import ScenarioTest
from qefleet.agents.production_intelligence import PRODUCTION_INTELLIGENCE
from qefleet.contracts.production import Incident
from qefleet.testing.broken import WAYS, BrokenTools, Way
from qefleet.testing.ground import LocalGround
from qefleet.tools.production.incidents import reproduce
from qefleet.workspace.sandbox import Sandbox

_BEGINS = datetime(2026, 3, 1, 12, tzinfo=UTC)
_BUCKET_S = 30
_BUCKETS = 240
_NAMES = ("ann", "bob", "cyd", "dan", "eve", "fay", "gus", "hal")
_USERS, _CACHE, _REFUSED, _LATE = range(4)
_SAYS = (
    "INFO app: user {name} signed in from 10.0.{n}.7",
    "WARN cache: miss for {hex} in shard-{n}",
    "ERROR pay: order {uuid} refused: 'card {n} declined'",
    "ERROR pay: provider gone after {n}ms",
    "INFO net: connection opened to 10.1.{n}.9:443",
    "INFO net: connection closed to 10.1.{n}.9:443",
    "INFO job: wrote /var/data/{hex}/part-{n}.csv in {n}.5 s",
    "DEBUG http: GET https://x.org/a/{n}?q={hex} took {n} ms",
)
_METRICS = (
    "production.lines",
    "production.templates",
    "production.error_rate",
    "production.anomalies",
    "production.change_points",
    "production.new_templates",
)


@dataclass(frozen=True)
class Written:
    """A log, and what was written into it."""

    text: str
    lines: int
    by_template: list[int]


def _write(
    seed: int, *, per_bucket: float = 4.0, planted: bool = False, form: str = "{time} {says}"
) -> Written:
    """Two hours of eight templates at Poisson's rates.

    Planted are cache misses at three times their rate from bucket 120 on, 40 refusals more in bucket 200,
    and a provider that is gone 9 times in bucket 230 and never before.
    """
    chance = random.Random(seed)
    lines: list[str] = []
    by_template = [0] * len(_SAYS)
    for bucket in range(_BUCKETS):
        at: list[tuple[float, int]] = []
        for template in range(len(_SAYS)):
            mean = 0.0 if template == _LATE else per_bucket
            mean *= 3 if planted and template == _CACHE and bucket >= 120 else 1
            count = _poisson(chance, mean)
            count += 40 if planted and template == _REFUSED and bucket == 200 else 0
            count += 9 if planted and template == _LATE and bucket == 230 else 0
            at += [(chance.uniform(0, _BUCKET_S - 0.001), template) for _ in range(count)]
        if bucket in (0, _BUCKETS - 1):
            at.append((0.0 if bucket == 0 else _BUCKET_S - 0.001, _USERS))
        for second, template in sorted(at):
            by_template[template] += 1
            says = _SAYS[template].format(
                name=chance.choice(_NAMES),
                n=chance.randrange(250),
                hex=f"{chance.getrandbits(64) | 1 << 63:016x}",
                uuid=f"{chance.getrandbits(32):08x}-0000-4000-8000-{chance.getrandbits(48):012x}",
            )
            time = _BEGINS + timedelta(seconds=bucket * _BUCKET_S + second)
            lines.append(form.format(time=time.isoformat(timespec="milliseconds"), says=says))
    return Written("\n".join(lines) + "\n", len(lines), by_template)


def _poisson(chance: random.Random, mean: float) -> int:
    limit, product, count = math.exp(-mean), chance.random(), 0
    while product > limit:
        product *= chance.random()
        count += 1
    return count


def _at(bucket: int) -> str:
    return (_BEGINS + timedelta(seconds=bucket * _BUCKET_S)).strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass
class Logged:
    """Measures projects that have nothing but these files."""

    root: Path
    environment: Path
    sandbox: Sandbox

    def ground(self, **files: str) -> LocalGround:
        folder = self.root / f"project{len(list(self.root.iterdir()))}"
        return LocalGround(write_project(folder, files), self.environment, self.sandbox)

    async def measure(self, **files: str) -> Alone:
        return await measure_alone(PRODUCTION_INTELLIGENCE, self.ground(**files))


@pytest.fixture
def logged(tmp_path: Path, environment: Path, sandbox: Sandbox) -> Logged:
    return Logged(tmp_path, environment, sandbox)


async def test_what_was_planted_in_a_log_is_found(logged: Logged) -> None:
    """Each at its bucket and in its template, and nothing else; the counts are the generator's."""
    written = _write(1, planted=True)
    alone = await logged.measure(**{"logs/app.log": written.text})

    errors = written.by_template[_REFUSED] + written.by_template[_LATE]
    assert alone.value("production.lines") == written.lines
    assert alone.value("production.templates") == len(_SAYS)
    assert alone.value("production.error_rate") == pytest.approx(100 * errors / written.lines, abs=1e-6)
    assert (alone.details["buckets"], alone.details["bucket_s"]) == (_BUCKETS, _BUCKET_S)
    texts = {it["id"]: it["text"] for it in alone.details["templates"]}
    assert sorted(it["events"] for it in alone.details["templates"]) == sorted(written.by_template)
    assert "INFO app: user <*> signed in from <ip>" in texts.values()
    assert "INFO net: connection opened to <ip>" in texts.values()

    (change,) = alone.details["change_points"]
    assert texts[change["series"]] == "WARN cache: miss for <hex> in shard-<n>"
    assert abs(change["bucket"] - 120) <= 1
    assert (change["before"], change["after"]) == (pytest.approx(4, rel=0.1), pytest.approx(12, rel=0.1))
    found = {texts[it["series"]]: (it["begins"], it["ends"]) for it in alone.details["anomalies"]}
    assert found == {
        "ERROR pay: order <uuid> refused: <str>": (_at(200), _at(201)),
        "ERROR pay: provider gone after <n>ms": (_at(230), _at(231)),
    }
    assert [it["text"] for it in alone.details["templates"] if it["new"]] == [
        "ERROR pay: provider gone after <n>ms"
    ]
    assert alone.value("production.new_templates") == 1
    issue = next(it for it in alone.details["issues"] if it["id"] == "anomaly-2")
    assert issue["path"] == "logs/app.log"
    assert "provider gone" in written.text.splitlines()[int(issue["line"]) - 1]
    cited = {it["id"] for it in (*alone.evidence["anomalies"], *alone.evidence["changes"])}
    assert cited == {"anomaly-1", "anomaly-2", "change-1"}


@pytest.mark.parametrize("seed", range(2, 6))
async def test_a_log_of_noise_has_nothing_in_it(logged: Logged, seed: int) -> None:
    alone = await logged.measure(**{"logs/app.log": _write(seed).text})

    assert [alone.value(f"production.{it}") for it in ("anomalies", "change_points", "new_templates")] == [
        0
    ] * 3
    assert (alone.details["issues"], alone.evidence) == ([], None)


@pytest.mark.parametrize(
    ("path", "form"),
    [
        ("logs/a.jsonl", '{{"time": "{time}", "message": "{says}"}}'),
        ("logs/b.log", "[{time}] {says}"),
        ("logs/c.log", "{time} {says}\n  File x, line 3\nValueError: of the event above"),
    ],
)
async def test_other_forms_of_log_say_the_same(logged: Logged, path: str, form: str) -> None:
    """JSON lines, brackets, and lines that go on."""
    written = _write(7, form=form)
    alone = await logged.measure(**{path: written.text})

    assert alone.value("production.templates") == len([count for count in written.by_template if count])
    assert sum(it["events"] for it in alone.details["templates"]) == written.lines
    assert alone.details["begins"] == _at(0)


async def test_a_hundred_thousand_lines_are_read_in_five_seconds(logged: Logged) -> None:
    """And the same twice; what isn't the reading itself takes less than a twentieth of it, or 0.2 s."""
    written = _write(8, per_bucket=60.0)
    assert written.lines > 100_000
    ground = logged.ground(**{"logs/app.log": written.text})
    runs = [await measure_alone(PRODUCTION_INTELLIGENCE, ground) for _ in range(3)]

    assert min(run.took_s for run in runs) < 5
    assert min(run.overhead_s for run in runs) < max(0.2, 0.05 * min(run.took_s for run in runs))
    assert runs[0].details == runs[1].details
    assert runs[0].value("production.lines") == written.lines


async def test_hostile_lines_take_no_longer_than_others(logged: Logged) -> None:
    """Long runs of what patterns begin with, lines without end, no text, impossible times."""
    nasty = [
        "/a" * 20_000,
        "a" * 60_000,
        '"' * 9999,
        "'a" * 9999,
        "1." * 20_000,
        "[" * 50_000,
        "\ud800\0\x1b",
    ]
    nasty += [
        "2026-99-99T99:99:99 no such day",
        "9999999999 far",
        "{" * 60_000,
        '{"time": 1e400, "level": []}',
        '{"a":' * 12_000,
    ]
    ground = logged.ground(**{"app.log": ""})
    (ground.project / "app.log").write_bytes("\n".join(nasty * 20).encode("utf-8", "surrogatepass"))
    alone = await measure_alone(PRODUCTION_INTELLIGENCE, ground)

    assert alone.value("production.lines") == len(nasty) * 20
    assert alone.took_s < 10


async def test_a_window_and_a_limit_are_kept(logged: Logged) -> None:
    written = _write(9, planted=True)
    ground = logged.ground(**{"logs/app.log": written.text})
    last_half_hour = await measure_alone(PRODUCTION_INTELLIGENCE, ground, options={"window_hours": 0.5})
    short = await measure_alone(PRODUCTION_INTELLIGENCE, ground, options={"bucket_s": 3600})

    assert last_half_hour.details["begins"] >= _at(_BUCKETS - 61)
    assert last_half_hour.details["change_points"] == []
    assert last_half_hour.value("production.anomalies") == 2  # spread over buckets of 10 s
    assert "span 2 buckets of 3600 s" in short.reason("production.anomalies")
    assert short.value("production.lines") == written.lines


async def test_templates_that_the_last_run_did_not_have_are_named(logged: Logged) -> None:
    first = await logged.measure(**{"logs/app.log": _write(1).text})
    ground = logged.ground(**{"logs/app.log": _write(1, planted=True).text})
    now = await measure_alone(PRODUCTION_INTELLIGENCE, ground, last=first.result(PRODUCTION_INTELLIGENCE))

    texts = {it["id"]: it["text"] for it in now.details["templates"]}
    assert [texts[it] for it in now.details["unknown_before"]] == ["ERROR pay: provider gone after <n>ms"]


async def test_a_history_of_reports_tells_what_fails_now(logged: Logged) -> None:
    """A log need not be there; a test that failed from the fifth run on is an issue with its name."""
    files = {
        f"reports/junit/run-{run}.xml": '<testsuite><testcase classname="t" name="good" time="1"/>'
        '<testcase classname="t" name="bad" time="1">'
        f"{'<failure/>' if run >= 5 else ''}</testcase></testsuite>"
        for run in range(1, 7)
    }
    alone = await logged.measure(**files)
    few = await logged.measure(**dict(list(files.items())[:3]))

    assert alone.value("production.newly_failing_tests") == 1
    assert alone.value("production.slowed_tests") == 0
    assert [(it["id"], it["severity"]) for it in alone.details["issues"]] == [("t::bad", "high")]
    assert alone.evidence["newly_failing"][0]["failing_runs"] == 2
    assert "no log file" in alone.reason("production.anomalies")
    assert "a history needs 4" in few.reason("production.newly_failing_tests")
    assert few.finding.headline == "neither logs nor a history of JUnit reports could be read"


_SHOP = """def split(total, guests):
    return rounded(total / guests)


def rounded(amount):
    return round(amount, 2)
"""
_RAISED = """2026-03-01T12:00:01Z ERROR web: request failed
Traceback (most recent call last):
  File "/usr/lib/python3.12/site-packages/web/app.py", line 99, in handle
    return view()
  File "/srv/app/shop/bill.py", line 2, in split
    return rounded(total / guests)
           ~~~~~~^~~~~~~~
ZeroDivisionError: division by zero
2026-03-01T12:00:02Z INFO web: next
"""
_IN_JSON = json.dumps(
    {
        "time": "2026-03-01T12:00:05Z",
        "level": "error",
        "msg": "failed",
        "exc_info": "\n".join(_RAISED.splitlines()[1:-1]),
    }
)
_SHOWS = "from shop.bill import split\n\n\ndef test_nobody_pays():\n    assert split(10, 0) == 0\n"
_PASSES = "from shop.bill import split\n\n\ndef test_two_pay():\n    assert split(10, 2) == 5\n"
_OTHERWISE = "def test_division():\n    1 / 0\n"


async def test_an_incident_becomes_a_test_that_shows_it(logged: Logged) -> None:
    """Found in the source, whatever machine wrote the log; a test counts when it fails the same way."""
    ground = logged.ground(
        **{
            "shop/__init__.py": "",
            "shop/bill.py": _SHOP,
            "logs/web.log": _RAISED,
            "logs/web.jsonl": _IN_JSON + "\n",
        }
    )
    alone = await measure_alone(PRODUCTION_INTELLIGENCE, ground)

    (incident,) = alone.details["incidents"]
    assert (incident["exception"], incident["path"], incident["line"]) == (
        "ZeroDivisionError",
        "shop/bill.py",
        2,
    )
    assert (incident["module"], incident["function"], incident["events"]) == ("shop.bill", "split", 2)
    assert alone.value("production.incidents") == 1
    assert alone.value("production.error_rate") == pytest.approx(200 / 3)
    (work,) = alone.finding.work
    assert work.title == "ZeroDivisionError in shop.bill.split"

    shown, why, runs = await reproduce(ground, Incident.model_validate(incident), _SHOWS)
    assert (shown, runs) == (True, 3), why
    for test, reason in (
        (_PASSES, "it passes"),
        (_OTHERWISE, "it fails for another reason"),
        ("def test_a(): pass\n" * 2, "it has 2 functions"),
        ("def test_a(:", "it is no Python"),
    ):
        shown, why, _ = await reproduce(ground, Incident.model_validate(incident), test)
        assert (shown, why.startswith(reason)) == (False, True), why


async def test_the_loop_keeps_what_shows_the_incident(logged: Logged) -> None:
    """One that passes is asked again, with the reason; one that fails as the log says is an artifact."""
    ground = logged.ground(**{"shop/__init__.py": "", "shop/bill.py": _SHOP, "logs/web.log": _RAISED})
    alone = await measure_alone(PRODUCTION_INTELLIGENCE, ground)
    ctx, loop = alone.ctx, PRODUCTION_INTELLIGENCE.loop
    assert loop
    assert alone.finding.state
    (work,) = alone.finding.work
    question = await loop.question(ctx, work.id, alone.finding.state, None)
    assert "return rounded(total / guests)" in str(question.context)

    first = await loop.try_proposal(ctx, work.id, ScenarioTest(test=_PASSES), alone.finding.state)
    second = await loop.try_proposal(ctx, work.id, ScenarioTest(test=_SHOWS), first.state)
    finding = await loop.conclude(ctx, second.state, [])

    assert (first.done, first.kept, second.done, second.kept) == (False, 0, True, 1)
    assert first.feedback
    assert alone.artifacts.kept[first.feedback].startswith(b"it passes")
    assert finding.measurement.value("production.reproduced_incidents") == 1
    assert undeclared(PRODUCTION_INTELLIGENCE, finding.measurement) == []
    assert f"test_{work.id}.py" in [artifact.name for artifact in finding.artifacts]
    assert finding.measurement.value("production.lines") == alone.value("production.lines")


@pytest.mark.parametrize("way", WAYS)
async def test_a_broken_reader_measures_nothing(logged: Logged, way: Way) -> None:
    ground = logged.ground(**{"logs/app.log": _write(1).text})
    alone = await measure_alone(PRODUCTION_INTELLIGENCE, BrokenTools(ground, "qe_logs", way))

    said = {
        "crashing": "exit code 139",
        "hanging": "limit of time",
        "rubbish": "can't be read",
        "nothing": "left no report",
    }
    assert all(said[way] in alone.reason(name) for name in _METRICS)


async def test_two_words_that_vary_make_one_template(logged: Logged) -> None:
    """Seven names of packages in seven states: the words between stay."""
    names = ("ab", "cd", "ef", "gh", "ij", "kl", "mn")
    text = "".join(f"package {name} is {other}\n" for name in names for other in names[::-1])
    alone = await logged.measure(**{"logs/a.log": text + "package x was gone\npackage y was gone\n"})

    assert {it["text"]: it["events"] for it in alone.details["templates"]} == {
        "package <*> is <*>": 49,
        "package x was gone": 1,
        "package y was gone": 1,
    }
    assert "span 0 buckets" in alone.reason("production.anomalies")

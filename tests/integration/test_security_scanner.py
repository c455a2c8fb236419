"""Weaknesses, secrets and vulnerable dependencies that were planted, and a project that has none."""

from __future__ import annotations

import json
import random
import string
import threading
from collections.abc import Awaitable, Callable, Iterator
from hashlib import sha1
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import metadata
from pathlib import Path
from typing import Any, cast

import pytest
from agent_context import Alone, measure_alone
from planted_project import write_project

from qefleet.agents.security_scanner import SECURITY_SCANNER
from qefleet.contracts.changes import Changes
from qefleet.contracts.items import Item
from qefleet.contracts.measured import Measured
from qefleet.testing.broken import WAYS, BrokenTools, Way
from qefleet.testing.ground import LocalGround
from qefleet.tools.program import ToolReport
from qefleet.tools.release.pins import Installed, Pin, chosen_pins, find_installed, locked_pins
from qefleet.tools.security.advisories import audit
from qefleet.tools.security.secrets_found import run_detect_secrets
from qefleet.tools.security.weaknesses import run_bandit, run_ruff
from qefleet.workspace.sandbox import Sandbox

_RANDOM = random.Random(7)
_KEY = "AKIA" + "".join(_RANDOM.choice(string.ascii_uppercase + string.digits) for _ in range(16))
"""Made here, so that no scanner finds it in this file."""
_PASSWORD = "correct-horse" + "-battery"
_UNSAFE = f"""def find(db, name):
    return db.execute("SELECT * FROM users WHERE name = '%s'" % name)


password = "{_PASSWORD}"


def compute(text):
    return eval(text)
"""
_CLEAN = {
    "pyproject.toml": '[project]\nname = "planted"\nversion = "1"\ndependencies = []\n',
    "pkg/__init__.py": '"""Adds."""\n\n\ndef add(a, b):\n    return a + b\n',
    "tests/test_add.py": "from pkg import add\n\n\ndef test_add():\n    assert add(1, 2) == 3\n",
}
_PLANTED = {**_CLEAN, "pkg/db.py": _UNSAFE, "deploy/settings.ini": f"[aws]\nid = {_KEY}\n"}
_COUNTS = ("critical", "high", "medium", "low", "secrets", "known", "vulnerable_dependencies")

Ground = Callable[[dict[str, str]], LocalGround]


@pytest.fixture
def ground(tmp_path: Path, environment: Path, sandbox: Sandbox) -> Ground:
    def make(files: dict[str, str]) -> LocalGround:
        folder = tmp_path / f"project{len(list(tmp_path.iterdir()))}"
        return LocalGround(write_project(folder, files), environment, sandbox)

    return make


@pytest.fixture
def advisories() -> Iterator[str]:
    """A service that knows of one vulnerability, of jinja2 2.4.1."""

    class Service(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked: dict[str, Any] = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            package = {"name": "jinja2", "ecosystem": "PyPI"}
            events = [{"introduced": "0"}, {"fixed": "3.0"}]
            affected = {"package": package, "ranges": [{"type": "ECOSYSTEM", "events": events}]}
            known = {
                "id": "PYSEC-1",
                "summary": "it escapes the sandbox",
                "published": "2020-01-01T00:00:00Z",
                "affected": [affected | {"versions": ["2.4.1"]}],
            }
            bad = (asked["package"]["name"], asked["version"]) == ("jinja2", "2.4.1")
            answer = json.dumps({"vulns": [known]} if bad else {}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base's name
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Service)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/v1/query"
    server.shutdown()
    server.server_close()


def _ids(alone: Alone) -> list[str]:
    return [issue["id"] for issue in alone.details["issues"]]


def _values(alone: Alone) -> dict[str, float | None]:
    return {name: alone.value(f"security.{name}") for name in _COUNTS}


async def test_what_was_planted_is_found_at_its_place_and_once(ground: Ground) -> None:
    """Bandit and ruff agree on three: each is one issue; the key is the one that is surely a secret."""
    alone = await measure_alone(SECURITY_SCANNER, ground(_PLANTED))

    assert _ids(alone) == [
        "aws-access-key@deploy/settings.ini:2",
        "B608@pkg/db.py:2",
        "secret-keyword@pkg/db.py:5",
        "B307@pkg/db.py:9",
        "B105@pkg/db.py:5",
    ]
    assert alone.details["agreed"] == 3
    assert _values(alone) == {
        "critical": 1,
        "high": 0,
        "medium": 3,
        "low": 1,
        "secrets": 1,
        "known": 0,
        "vulnerable_dependencies": 0,
    }


async def test_no_secret_stands_in_what_is_kept_or_shown_to_a_model(ground: Ground) -> None:
    alone = await measure_alone(SECURITY_SCANNER, ground(_PLANTED))

    told = alone.finding.model_dump_json() + b"".join(alone.artifacts.kept.values()).decode()
    assert _PASSWORD not in told
    assert _KEY not in told
    assert sha1(_KEY.encode()).hexdigest()[:12] in told
    assert [entry["id"] for entry in alone.evidence] == _ids(alone)
    assert any("SELECT" in line for line in alone.evidence[1]["code"])


async def test_nothing_is_found_where_nothing_is(ground: Ground) -> None:
    alone = await measure_alone(SECURITY_SCANNER, ground(_CLEAN))

    assert _values(alone) == dict.fromkeys(_COUNTS, 0)
    assert (alone.details["issues"], alone.evidence, alone.finding.notes) == ([], None, [])
    assert alone.details["in_tests"] == 1  # the assert


async def test_tests_may_hold_what_code_may_not(ground: Ground) -> None:
    """A key in tests deserves a look; passwords and evals of tests aren't counted."""
    files = {**_CLEAN, "tests/test_db.py": _UNSAFE, "tests/keys.ini": f"id = {_KEY}\n"}
    alone = await measure_alone(SECURITY_SCANNER, ground(files))

    assert _ids(alone) == ["aws-access-key@tests/keys.ini:1"]
    assert (alone.value("security.medium"), alone.value("security.secrets")) == (1, 0)


async def test_baselines_mark_what_the_project_has_accepted(ground: Ground) -> None:
    """By bandit's report and by detect-secrets' baseline: lines may have moved, one more is new."""
    bandit = {
        "results": [
            {
                "filename": "./pkg/db.py",
                "test_id": "B608",
                "issue_text": "Possible SQL injection vector through string-based query construction.",
            }
        ]
    }
    secret = {"type": "AWS Access Key", "hashed_secret": sha1(_KEY.encode()).hexdigest()}
    files = {
        **_PLANTED,
        "pkg/db.py": "\n\n" + _UNSAFE + _UNSAFE,
        ".bandit-baseline.json": json.dumps(bandit),
        ".secrets.baseline": json.dumps({"results": {"deploy/settings.ini": [secret]}}),
        ".security-baseline.json": "[]",
    }
    alone = await measure_alone(SECURITY_SCANNER, ground(files))

    known = [issue["id"] for issue in alone.details["issues"] if issue["known"]]
    assert known == ["aws-access-key@deploy/settings.ini:2", "B608@pkg/db.py:4"]
    assert (alone.value("security.known"), alone.value("security.secrets")) == (2, 0)
    assert "B608@pkg/db.py:13" in _ids(alone)
    assert [note.partition(":")[0] for note in alone.finding.notes] == ["not used"]


async def test_in_diff_mode_what_the_base_had_is_known(ground: Ground) -> None:
    before = {**_CLEAN, "pkg/db.py": "# an older one\n" + _UNSAFE}
    alone = await measure_alone(
        SECURITY_SCANNER, ground(_PLANTED), base=ground(before), changes=Changes({"pkg/db.py": [(1, 1)]})
    )

    assert [i["id"] for i in alone.details["issues"] if not i["known"]] == [
        "aws-access-key@deploy/settings.ini:2"
    ]
    assert (alone.value("security.medium"), alone.value("security.critical")) == (0, 1)


async def test_what_has_come_and_gone_since_the_last_run_is_named(ground: Ground) -> None:
    last = await measure_alone(SECURITY_SCANNER, ground({**_CLEAN, "pkg/db.py": _UNSAFE}))
    files = {**_CLEAN, "pkg/db.py": _UNSAFE.replace("eval(text)", "exec(text)")}
    alone = await measure_alone(SECURITY_SCANNER, ground(files), last=last.result(SECURITY_SCANNER))

    assert alone.details["since_last"] == {"appeared": ["B102@pkg/db.py:9"], "gone": ["B307@pkg/db.py:9"]}


async def test_an_item_is_scanned_by_itself(ground: Ground) -> None:
    item = Item(id="deploy", paths=["deploy"])
    alone = await measure_alone(SECURITY_SCANNER, ground(_PLANTED), item=item)

    assert _ids(alone) == ["aws-access-key@deploy/settings.ini:2"]
    assert "security.vulnerable_dependencies" not in alone.finding.measurement.metrics


async def test_a_vulnerable_dependency_is_found_where_it_is_pinned(ground: Ground, advisories: str) -> None:
    pins = "jinja2==2.4.1 ; python_version > '3'\nMarkupSafe==3.0.2 --hash=sha256:00\nflask>=1\n-r more.txt\n"
    alone = await measure_alone(
        SECURITY_SCANNER,
        ground({**_CLEAN, "requirements.txt": pins.replace("flask>=1\n", "")}),
        options={"advisories_url": advisories},
        allowed_hosts=frozenset({"127.0.0.1"}),
    )

    assert alone.details["pins"] == ["jinja2==2.4.1", "markupsafe==3.0.2"]
    assert alone.value("security.vulnerable_dependencies") == 1
    (issue,) = alone.details["issues"]
    assert (issue["id"], issue["path"]) == ("PYSEC-1@jinja2==2.4.1", "requirements.txt")
    assert "fixed in 3.0" in issue["message"]


async def test_every_version_of_a_package_is_asked_about(advisories: str) -> None:
    pins = [Pin("jinja2", "2.4.1"), Pin("jinja2", "3.1.6"), Pin("markupsafe", "3.0.2")]
    reports = await audit(pins, url=advisories)

    assert [[issue.id for issue in report.value or []] for report in reports] == [
        ["PYSEC-1@jinja2==2.4.1"],
        [],
    ]


async def test_an_advisory_service_that_is_away_is_no_clean_answer(ground: Ground) -> None:
    """Neither is one that may not be asked, nor a dependency whose version nobody knows."""
    hosts = frozenset({"127.0.0.1:9"})
    asked = {"advisories_url": "http://127.0.0.1:9/v1/query"}
    files = {**_CLEAN, "requirements.txt": "jinja2==3.1.6\n"}
    metric = "security.vulnerable_dependencies"

    alone = await measure_alone(SECURITY_SCANNER, ground(files), options=asked, allowed_hosts=hosts)
    assert "could not look the dependencies up" in alone.reason(metric)
    assert alone.value("security.critical") == 0

    alone = await measure_alone(SECURITY_SCANNER, ground(files), options=asked)
    assert "QE_ALLOWED_HOSTS" in alone.reason(metric)

    alone = await measure_alone(SECURITY_SCANNER, ground({**files, "requirements.txt": "jinja2>=3\n"}))
    assert "no version is known of jinja2" in alone.reason(metric)


def test_of_a_lock_file_for_developers_too_only_what_is_shipped_is_asked_about() -> None:
    locked = [Pin("a", "1", "uv.lock"), Pin("a", "2", "uv.lock"), Pin("sphinx", "8", "uv.lock")]
    listed = Pin("x", "1", "requirements.txt")
    installed = Installed(project="own", installed={}, needed={"a": "3", "b": "1"}, absent=("c",))

    pins = chosen_pins([*locked, Pin("c", "4", "uv.lock"), listed], installed)
    assert [str(pin) for pin in pins] == ["a==1", "a==2", "b==1", "c==4", "x==1"]
    nothing_said = Installed(project=None, installed={}, needed={}, absent=(), known=False)
    assert chosen_pins(locked, nothing_said) == locked


async def test_what_a_project_needs_is_what_it_requires_and_no_tool_of_its_tests(ground: Ground) -> None:
    """Through extras and markers, at the versions of the environment."""
    requires = ["packaging; python_version>'3'", "nothing; extra=='test'", "helper[more]"]
    needs = "Name: helper\nVersion: 2\nProvides-Extra: more\nRequires-Dist: absent-one; extra=='more'\n"
    own = "".join(f"Requires-Dist: {text}\n" for text in requires)
    files = {
        "planted-1.dist-info/METADATA": f"Metadata-Version: 2.1\nName: planted\nVersion: 1\n{own}",
        "planted-1.dist-info/direct_url.json": '{"url": "file:///src", "dir_info": {"editable": true}}',
        "helper-2.dist-info/METADATA": f"Metadata-Version: 2.1\n{needs}",
    }
    found = (await find_installed(ground({**_CLEAN, **files}))).value

    assert found
    assert (found.project, found.absent) == ("planted", ("absent-one",))
    assert found.needed == {"helper": "2", "packaging": metadata.version("packaging")}
    assert "pytest" in found.installed


def test_pins_are_read_from_the_lock_files_that_people_use(tmp_path: Path) -> None:
    """The project's own packages aren't among them, and what is no version isn't either."""
    table = '[[package]]\nname = "{}"\nversion = "{}"\n'
    own = table.format("own", "1") + 'source = { editable = "." }\n'
    files = {
        "uv.lock": own + table.format("A.b", "1.0") + 'source = { registry = "r" }\n',
        "poetry.lock": table.format("c", "2"),
        "pylock.toml": table.format("d", "3").replace("package", "packages"),
        "Pipfile.lock": json.dumps({"default": {"e": {"version": "==4"}, "f": {"path": "."}}}),
        "requirements.txt": "g==5 # why\nh==1.*\ni==6 \\\n  --hash=sha256:0\nj==1,<2\n-i x\nk==a b\n",
        "pdm.lock": "}{",
    }
    found = [f"{pin} {pin.path}" for pin in locked_pins(write_project(tmp_path / "locks", files))]

    assert found == [
        "a-b==1.0 uv.lock",
        "c==2 poetry.lock",
        "d==3 pylock.toml",
        "e==4 Pipfile.lock",
        "g==5 requirements.txt",
        "i==6 requirements.txt",
    ]


_SCANNERS: dict[str, Callable[[LocalGround], Awaitable[ToolReport[Any]]]] = {
    "bandit": lambda ground: run_bandit(ground, timeout_s=60),
    "ruff": lambda ground: run_ruff(ground, timeout_s=60),
    "detect_secrets": lambda ground: run_detect_secrets(ground, timeout_s=60),
}


@pytest.mark.parametrize("module", _SCANNERS)
async def test_a_broken_scanner_finds_nothing_and_says_why(ground: Ground, module: str) -> None:
    project = ground(_PLANTED)
    for way in WAYS:
        report = await _SCANNERS[module](cast("LocalGround", BrokenTools(project, module, way)))
        assert report.value is None, way
        assert module.replace("_", "-") in report.reason, way


@pytest.mark.parametrize("module", _SCANNERS)
async def test_without_one_scanner_no_severity_is_counted(ground: Ground, module: str) -> None:
    broken = cast("LocalGround", BrokenTools(ground(_PLANTED), module, "nothing"))
    alone = await measure_alone(SECURITY_SCANNER, broken)

    reasons = {alone.reason(f"security.{severity}") for severity in ("critical", "high", "medium", "low")}
    assert len(reasons) == 1
    assert "left no report" in reasons.pop()
    assert (alone.value("security.secrets") is None) == (module == "detect_secrets")


@pytest.mark.parametrize("way", WAYS)
async def test_a_broken_audit_measures_nothing(tmp_path: Path, way: Way) -> None:
    program = tmp_path / "python"
    does = {"crashing": "kill -11 $$", "hanging": "sleep 60", "rubbish": "echo '}{ 0x'", "nothing": "true"}
    program.write_text(f"#!/bin/sh\n{does[way]}\n")
    program.chmod(0o755)
    (report,) = await audit([Pin("jinja2", "3.1.6")], python=str(program), timeout_s=1)

    assert report.value is None
    assert report.reason
    assert report.run


async def test_missing_tools_say_how_to_install_them(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(distribution: str) -> str:
        raise metadata.PackageNotFoundError(distribution)

    project = ground({**_CLEAN, "requirements.txt": "jinja2==3.1.6\n"})
    monkeypatch.setattr(metadata, "version", nothing)
    alone = await measure_alone(SECURITY_SCANNER, project)

    for name in ("bandit", "ruff", "detect-secrets"):
        assert f"pip install '{name}'" in alone.reason("security.critical")
    assert "pip install 'pip-audit'" in alone.reason("security.vulnerable_dependencies")


async def test_measuring_again_gives_the_same_and_takes_little_of_our_own(ground: Ground) -> None:
    """At most 200 ms a tool. The scanners run at the same time: of their durations the longest counts."""
    project = ground(_PLANTED)
    found = [await measure_alone(SECURITY_SCANNER, project) for _ in range(3)]

    assert found[0].details == found[1].details == found[2].details
    assert len({alone.finding.evidence for alone in found}) == 1
    assert _values(found[0]) == _values(found[1]) == _values(found[2])
    ours: list[float] = []
    for alone in found:
        *scanners, installed = alone.finding.measurement.tools
        ours.append(alone.took_s - max(run.duration_s for run in scanners) - installed.duration_s)
    assert min(ours) < 4 * 0.2


async def test_every_number_names_the_tool_that_gave_it(ground: Ground) -> None:
    alone = await measure_alone(SECURITY_SCANNER, ground(_PLANTED))
    measurement = alone.finding.measurement

    tools = {
        name: measurement.tools[metric.tool].tool
        for name, metric in measurement.metrics.items()
        if isinstance(metric, Measured)
    }
    assert tools == {f"security.{name}": "bandit" for name in _COUNTS} | {
        "security.secrets": "detect-secrets",
        "security.vulnerable_dependencies": "importlib.metadata",
    }
    kept = alone.artifacts.kept
    assert all(run.artifact and run.artifact.digest in kept for run in measurement.tools)

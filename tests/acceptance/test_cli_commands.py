from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from qefleet.agents.catalogue import built_in
from tests.acceptance.command_line import Ended, environment, qe
from worker.cli import execute
from worker.cli.app import app

_COMMANDS = (
    *("up", "run", "doctor", "agents", "report", "calls", "cost", "learning", "replay"),
    *("learning agent", "learning show", "learning plot", "learning export", "learning import"),
    *("worker", "gateway", "migrate", "agents show"),
    "memory",
    *(
        f"memory {name}"
        for name in ("store", "retrieve", "search", "delete", "list", "find", "recall", "append")
    ),
    *(
        f"memory {name}"
        for name in ("clear", "history", "stats", "watch", "export", "import", "sweep", "embed")
    ),
    "memory confine",
)


@pytest.mark.parametrize("command", ["", *_COMMANDS])
def test_help_has_examples(command: str) -> None:
    """Every command explains itself and shows how it is typed."""
    result = CliRunner().invoke(app, [*command.split(), "--help"])

    assert result.exit_code == 0
    assert "Example" in result.output


def test_help_loads_nothing_heavy(tmp_path: Path) -> None:
    """`qe --help` doesn't wait for Temporal's, lionagi's, Postgres' or Pydantic's libraries."""
    code = (
        "import sys\n"
        "from worker.cli import execute\n"
        "assert execute(['--help']) == 0\n"
        "heavy = {'temporalio', 'lionagi', 'asyncpg', 'pydantic', 'httpx', 'starlette'} & set(sys.modules)\n"
        "sys.exit(f'loaded: {heavy}' if heavy else 0)\n"
    )

    ended = qe("-c", code, env=environment(tmp_path), cwd=tmp_path, program=("python",))

    assert (ended.code, ended.err) == (0, "")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("run", "PATTERN"),
        ("run no-such-pattern .", "PATTERN"),
        ("run pipeline", "target"),
        ("run pipeline /no/such/folder", "target"),
        ("run pipeline . --model gpt", "--model"),
        ("run pipeline . --input '{'", "--input"),
        ("run pipeline . --threshold nonsense=1", "thresholds.nonsense"),
        ("run pipeline . --budget 0", "budget_usd"),
        ("run pipeline pypi:tabulate --apply", "--apply"),
        ("run pipeline . --detach", "qe up"),
        ("run --attach x --apply", "--attach"),
        ("run pipeline . --no-such-option", "--no-such-option"),
        ("memory store k 'not json'", "VALUE"),
        ("memory search", "nothing is recorded yet"),
        ("report", "nothing is recorded yet"),
        ("migrate", "QE_DATABASE_URL"),
        ("agents --no-such-option", "--no-such-option"),
        ("agents show coverage-analyser", "near it: coverage-analyzer"),
        ("agents show", "agent"),
    ],
)
def test_unusable_input_exits_2_and_names_it(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: str,
    said: str,
) -> None:
    """The message names what is wrong, and nothing is started."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("QE_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.delenv("QE_DATABASE_URL", raising=False)

    code = execute(shlex.split(arguments))

    assert code == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "data" / "logs").exists()


def test_error_is_a_sentence_and_not_a_trace(tmp_path: Path) -> None:
    """As the process itself says it."""
    ended = qe("run", "pipeline", "/no/such/folder", env=environment(tmp_path), cwd=tmp_path)

    assert (ended.code, ended.out) == (2, "")
    assert ended.err.startswith("error: target: no folder /no/such/folder")
    assert "Traceback" not in ended.err


@pytest.mark.parametrize(
    ("name", "value"), [("QE_UI_PORT", "x"), ("QE_MODEL", "x"), ("TEMPORAL_PROFILE", "no-such-profile")]
)
def test_wrong_setting_exits_2_and_names_the_variable(tmp_path: Path, name: str, value: str) -> None:
    """Settings are checked before anything is started."""
    ended = qe("up", env=environment(tmp_path, **{name: value}), cwd=tmp_path)

    assert (ended.code, name in ended.err) == (2, True)


def test_agents_are_listed_through_the_temporal_cli(tmp_path: Path) -> None:
    """`temporal qe agents` is `qe agents`: same answer, same exit code."""
    env = environment(tmp_path)

    ended = qe("qe", "agents", "--json", env=env, cwd=tmp_path, program=("temporal",))
    refused = qe("qe", "memory", "search", env=env, cwd=tmp_path, program=("temporal",))

    assert ended.code == 0, ended.err
    assert [agent["id"] for agent in ended.json] == [agent.id for agent in built_in()]
    assert len(ended.json) >= 18
    assert refused.code == 2


def test_memory_round_trip(tmp_path: Path, database: str) -> None:
    """What is stored is found, and gone once deleted; exit codes tell a script."""
    env = environment(tmp_path, QE_DATABASE_URL=database)

    def memory(*arguments: str) -> Ended:
        return qe("memory", *arguments, "--json", env=env, cwd=tmp_path)

    stored = memory("store", "aqe/a", '{"x": [1, null]}')
    retrieved = memory("retrieve", "aqe/a")
    found = memory("search", "aqe/*")
    deleted = memory("delete", "aqe/a")
    gone = memory("retrieve", "aqe/a")

    assert (stored.code, stored.json) == (0, {"key": "aqe/a", "version": 1})
    assert (retrieved.code, retrieved.json["value"]) == (0, {"x": [1, None]})
    assert (found.code, [entry["key"] for entry in found.json]) == (0, ["aqe/a"])
    assert (deleted.code, deleted.json) == (0, {"key": "aqe/a", "deleted": True})
    assert (gone.code, gone.out) == (1, "")


def test_memory_of_several_projects(tmp_path: Path, database: str) -> None:
    """Reading sees all; a key that two have needs the project's name; what has no UTF-8 is escaped."""
    env = environment(tmp_path, QE_DATABASE_URL=database)
    for project, value in (("one", '"\\ud800\\u0000"'), ("two", "2")):
        assert qe("memory", "store", "k", value, "--project", project, env=env, cwd=tmp_path).code == 0

    found = qe("memory", "search", "--json", env=env, cwd=tmp_path)
    table = qe("memory", "search", env=env, cwd=tmp_path)
    either = qe("memory", "retrieve", "k", env=env, cwd=tmp_path)
    one = qe("memory", "retrieve", "k", "--project", "one", "--json", env=env, cwd=tmp_path)
    out = qe("memory", "export", "--to", "all.jsonl", env=env, cwd=tmp_path)
    back = qe("memory", "import", "all.jsonl", env=env, cwd=tmp_path)
    watched = qe("memory", "recall", "2", "--project", "two", "--json", env=env, cwd=tmp_path)

    assert [(entry["project"], entry["value"]) for entry in found.json] == [("one", "\ud800\x00"), ("two", 2)]
    assert table.code == 0
    assert (either.code, "one, two" in either.err) == (2, True)
    assert one.json["value"] == "\ud800\x00"
    assert (out.code, back.out.strip()) == (0, "2 written, 0 had expired, 0 bad")
    assert [match["key"] for match in watched.json] == ["k"]


@pytest.mark.parametrize("command", ["calls", "cost", "learning", "report"])
def test_empty_lists_are_empty_json(tmp_path: Path, database: str, command: str) -> None:
    """A program reads a list, a person a sentence."""
    env = environment(tmp_path, QE_DATABASE_URL=database)

    assert qe(command, "--json", env=env, cwd=tmp_path).json == []
    assert "yet" in qe(command, env=env, cwd=tmp_path).out


def test_migrating_again_changes_nothing(tmp_path: Path, database: str) -> None:
    """The fixture's database is migrated."""
    ended = qe("migrate", "--json", env=environment(tmp_path, QE_DATABASE_URL=database), cwd=tmp_path)

    assert (ended.code, ended.json["applied"]) == (0, [])


def test_unreachable_database_is_told_without_its_password(tmp_path: Path) -> None:
    """A wrong address ends with a sentence, after some insisting."""
    env = environment(tmp_path, QE_DATABASE_URL="postgresql://u:canary@127.0.0.1:1/d")

    ended = qe("report", env=env, cwd=tmp_path)

    assert ended.code == 3
    assert "QE_DATABASE_URL" in ended.err
    assert "canary" not in ended.err

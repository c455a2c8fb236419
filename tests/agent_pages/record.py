"""Records a real result of each agent for its page: `make agent-results ONLY="security-scanner"`.

Runs `qe run pipeline` on what `examples.py` names, with the services of QE_DATA_DIR, and QE_MODEL=none unless
it is set. Long lists are cut; this machine's folders are taken out.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from agent_pages.examples import FOLDER, Example, example_of, input_of, target_of

from qefleet.agents.catalogue import built_in

_ENTRIES = 5
_TOOLS = 20
_CHARS = 400


def main(ids: Sequence[str]) -> int:
    """Record these agents, or all; the exit code."""
    failed: list[str] = []
    for agent_id in ids or [agent.id for agent in built_in()]:
        found = _run(agent_id)
        if found is None:
            failed.append(agent_id)
            continue
        path = FOLDER / "results" / f"{agent_id}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", "utf-8")
        print(f"{agent_id}: {found['status']}, {found['headline']}")  # noqa: T201 - a script that prints
    if failed:
        print(f"no result: {', '.join(failed)}", file=sys.stderr)  # noqa: T201
    return 1 if failed else 0


def _run(agent_id: str) -> dict[str, Any] | None:
    """An agent's result of a real run; None where the run gave none."""
    target = target_of(agent_id)
    folder = FOLDER / "examples" / target
    with tempfile.TemporaryDirectory() as scratch:
        here = Path(scratch, target) if folder.is_dir() else None
        command = [str(Path(sys.executable).with_name("qe")), "run", "pipeline", str(here or target)]
        command += ["--input", json.dumps(input_of(agent_id)), "--report", f"{scratch}/out", "--no-ci"]
        if here and _laid(folder, here, example_of(agent_id)):
            command += ["--base", "HEAD"]
        subprocess.run(command, env={"QE_MODEL": "none", **os.environ}, check=False, stdout=sys.stderr)
        written = Path(scratch, "out", "result.json")
        text = written.read_text("utf-8") if written.exists() else "{}"
        for real, told in ((f"{scratch}/", "/home/me/"), (sys.prefix, "/opt/qefleet")):
            text = text.replace(real, told)
    steps = cast("list[dict[str, Any]]", json.loads(text).get("steps", []))
    found = next((step for step in reversed(steps) if step["agent"] == agent_id), None)
    return trimmed(_with_few_tools(found)) if found else None


def _with_few_tools(step: dict[str, Any]) -> dict[str, Any]:
    """Of many runs of tools those that a metric names; the others say the same again."""
    measured = step["measured"]
    if len(measured["tools"]) <= _TOOLS:
        return step
    named = sorted({metric["tool"] for metric in measured["metrics"].values() if "tool" in metric})
    metrics = {
        name: metric | ({"tool": named.index(metric["tool"])} if "tool" in metric else {})
        for name, metric in measured["metrics"].items()
    }
    tools = [measured["tools"][index] for index in named]
    return step | {"measured": measured | {"metrics": metrics, "tools": tools}}


def _laid(source: Path, target: Path, example: Example) -> bool:
    """Copy an example, as a change in a repository where it is one; whether it is."""
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    if not example.before_change:
        return False
    _replace(target, [(path, now, before) for path, now, before in example.before_change])
    for arguments in (
        "init -q",
        "add -A",
        "-c user.name=shop -c user.email=shop@localhost commit -qm before",
    ):
        subprocess.run(["git", *arguments.split()], cwd=target, check=True)
    _replace(target, [(path, before, now) for path, now, before in example.before_change])
    return True


def _replace(folder: Path, changes: Sequence[tuple[str, str, str]]) -> None:
    for path, old, new in changes:
        text = (folder / path).read_text("utf-8")
        assert old in text, f"{path} has no {old!r}"
        (folder / path).write_text(text.replace(old, new), "utf-8")


def trimmed(value: Any, *, entries: int = _ENTRIES) -> Any:
    """A JSON value with its long lists and texts cut."""
    match value:
        case dict():
            return {
                name: trimmed(part, entries=_TOOLS if name in ("argv", "tools") else _ENTRIES)
                for name, part in cast("dict[str, Any]", value).items()
            }
        case list():
            parts = cast("list[Any]", value)
            more = [f"… and {len(parts) - entries} more"] if len(parts) > entries else []
            return [*(trimmed(part) for part in parts[:entries]), *more]
        case str() if len(value) > _CHARS:
            return value[:_CHARS] + "…"
        case _:
            return value


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

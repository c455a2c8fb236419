"""`docs/lionagi-best-practice.md`, as it stands there: each block in turn, in a program of its own."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from pathlib import Path

from qefleet.testing.provider import ScriptedProvider
from qefleet.testing.script import Rule

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "lionagi-best-practice.md").read_text("utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
RULES = [
    Rule(
        match="Write a test",
        reply='```json\n{"test": "def test_one(): ..."}\n```',
        input_tokens=30,
        output_tokens=12,
    ),
    Rule(match="Say nothing", reply="", finish_reason="content_filter"),
    Rule(match="Too many", status=429, retry_after_s=7),
    Rule(match="Refuse", status=401),
    Rule(match="What is to be done now", reply="Nothing."),
]


def run(script: str, *, url: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """The page's blocks as one program."""
    return subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "OPENAI_BASE_URL": f"{url}/v1", "OPENAI_API_KEY": "sk-test"},
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
    )


def left_in(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


async def test_page_runs(provider: ScriptedProvider, tmp_path: Path) -> None:
    """All of its assertions hold, each question is one request, and nothing is left on the disk."""
    await provider.script(RULES)

    done = await asyncio.to_thread(run, "\n".join(BLOCKS), url=provider.url, cwd=tmp_path)

    assert done.returncode == 0, done.stderr
    assert len(await provider.requests()) == len(RULES)
    assert left_in(tmp_path) == []

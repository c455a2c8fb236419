"""The GitHub action, and the CI jobs that the docs show."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from tests.schemas import check_ci
from worker.cli.app import app

ROOT = Path(__file__).parents[2]
ACTION: Any = yaml.safe_load((ROOT / "action.yml").read_text())
STEPS: list[dict[str, Any]] = ACTION["runs"]["steps"]
RUN = next(step for step in STEPS if step.get("id") == "run")
PAGE = (ROOT / "docs" / "ci.md").read_text()
EXAMPLES: list[Any] = [yaml.safe_load(text) for text in re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)]


def test_action_and_examples_are_valid() -> None:
    """GitHub's and GitLab's schemas accept them."""
    action, plain, gitlab = EXAMPLES

    check_ci("github-actions", ACTION)
    for workflow in (action, plain):
        # YAML 1.1 takes `on` for a boolean.
        check_ci("github-workflows", {"on" if key is True else key: value for key, value in workflow.items()})
    check_ci("gitlab-ci", gitlab)


def test_scripts_get_inputs_through_the_environment() -> None:
    """An expression in a script would run what a branch's name or a title says."""
    assert [step["run"] for step in STEPS if "${{" in step.get("run", "")] == []
    assert {
        f"INPUT_{name.upper()}"
        for name in ("pattern", "target", "model", "thresholds", "base", "report", "args")
    } == set(RUN["env"])


def test_each_input_is_used_and_each_used_one_is_there() -> None:
    """So that a misspelt one is no default."""
    used = set(re.findall(r"inputs\.([a-z-]+)", (ROOT / "action.yml").read_text()))
    given = {
        name
        for step in EXAMPLES[0]["jobs"]["quality"]["steps"]
        if "qefleet" in step["uses"]
        for name in step["with"]
    }

    assert used == set(ACTION["inputs"])
    assert given <= used


def test_options_are_those_of_the_command() -> None:
    """What the action and the page give to `qe run` is there."""
    shown = CliRunner().invoke(app, ["run", "--help"], env={"COLUMNS": "300"}).output
    commands = [*re.findall(r"\bqe run .*", PAGE), RUN["run"]]
    options = {option for text in commands for option in re.findall(r"(?<=[ (])--[a-z][a-z-]*", text)}

    assert {"--report", "--base", "--threshold", "--model", "--ci"} <= options
    assert [option for option in options if option not in shown] == []


@pytest.mark.parametrize(
    ("inputs", "typed"),
    [
        ({}, ["run", "pipeline", ".", "--report", "/r"]),
        (
            {
                "MODEL": "none",
                "BASE": "origin/a b",
                "THRESHOLDS": "a=1\n  b=2",
                "ARGS": "--json --input '{\"a\": 1}' $(id) ;",
            },
            [
                *("run", "pipeline", ".", "--report", "/r", "--model", "none", "--base", "origin/a b"),
                *("--threshold", "a=1", "--threshold", "b=2", "--json", "--input", '{"a": 1}', "$(id)", ";"),
            ],
        ),
        (
            {"TARGET": "; touch x", "PATTERN": "$(touch x)"},
            ["run", "$(touch x)", "; touch x", "--report", "/r"],
        ),
    ],
)
def test_script_types_what_was_asked_for(tmp_path: Path, inputs: dict[str, str], typed: list[str]) -> None:
    """Whatever stands in an input, it is an argument and no command."""
    (tmp_path / "qe").write_text('#!/bin/sh\nprintf "%s\\n" "$@"\nexit 7\n')
    (tmp_path / "qe").chmod(0o755)
    given = {"PATTERN": "pipeline", "TARGET": ".", "REPORT": "/r"} | inputs
    env = {name: given.get(name.removeprefix("INPUT_"), "") for name in RUN["env"]}

    ended = subprocess.run(
        ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", RUN["run"]],
        env={**env, "PATH": f"{tmp_path}:{os.environ['PATH']}"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )

    assert (ended.stdout.splitlines(), ended.returncode) == (typed, 7), ended.stderr
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("code", [0, 1, 2, 3])
def test_plain_script_ends_as_the_run_does(tmp_path: Path, code: int) -> None:
    """The page's example for any other CI."""
    (script,) = re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)
    (tmp_path / "qe").write_text(f"#!/bin/sh\nexit {code}\n")
    (tmp_path / "qe").chmod(0o755)

    ended = subprocess.run(
        ["sh", "-c", script],
        env={"PATH": f"{tmp_path}:{os.environ['PATH']}"},
        check=False,
        capture_output=True,
    )

    assert ended.returncode == code

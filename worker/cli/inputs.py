"""A run's input, put together from what was typed."""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qefleet.errors import InvalidInput, UsageError

if TYPE_CHECKING:
    from qefleet.contracts.flows import FlowInput
    from qefleet.contracts.runs import RunInput

PATTERNS = {
    "pipeline": "Pipeline",
    "parallel": "Parallel",
    "fan-out-fan-in": "FanOutFanIn",
    "parallel-expansion": "ParallelExpansion",
    "conditional": "Conditional",
    "hierarchical": "Hierarchical",
    "flow": "Flow",
    "release": "Release",
}
"""What is typed → the workflow's type."""
DEMO_MINUTES = {"none": 2.5, "local": 6.0}
"""How long the demo's generator takes new segments on, by model; others take `DEMO_MINUTES_ELSE`."""
DEMO_MINUTES_ELSE = 5.0
_DEMO_AGENTS = ("test-generator", "test-executor", "coverage-analyzer", "quality-gate")


def parse_json(text: str, *, name: str) -> Any:
    """JSON as typed, or from the file after an `@`.

    Raises:
        UsageError: The file can't be read, or it isn't JSON; the message starts with `name`.
    """
    if text.startswith("@"):
        try:
            text = Path(text[1:]).expanduser().read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"{name}: {text[1:]} can't be read: {error}") from error
    try:
        return json.loads(text)
    except ValueError as error:
        raise UsageError(
            f"{name}: not JSON ({error}); quote it for the shell, such as '{{\"a\": 1}}'"
        ) from error


def build_input(
    pattern: str,
    *,
    base: Any,
    target: str | None,
    model: str | None,
    agents: str | None,
    flow: str | None = None,
    policy: str | None = None,
    budget_usd: float | None,
    thresholds: Sequence[str],
    demo: bool,
    since: str | None = None,
) -> RunInput | FlowInput:
    """The checked input of a pattern: `base` (of `--input`), and over it what was given by name.

    Raises:
        InvalidInput: It doesn't validate; the message names the fields, and no values.
    """
    from pydantic import ValidationError

    given: dict[str, Any] = _as_object(base)
    if target is not None:
        given["target"] = absolute_target(target)
    elif isinstance(given.get("target"), str):
        given["target"] = absolute_target(given["target"])
    named = {"model": model, "flow": flow, "policy": policy, "budget_usd": budget_usd, "base": since}
    given |= {name: value for name, value in named.items() if value is not None}
    if agents is not None:
        given["agents"] = [agent.strip() for agent in agents.split(",") if agent.strip()]
    if thresholds:
        given["thresholds"] = given.get("thresholds", {}) | dict(map(_threshold, thresholds))
    if demo and "agents" not in given:
        minutes = DEMO_MINUTES.get(given.get("model") or "", DEMO_MINUTES_ELSE)
        # A small model rarely mends its own test: another segment is the better use of the time.
        rounds = {"max_rounds": 1} if given.get("model") == "local" else {}
        first, *others = _DEMO_AGENTS
        given["agents"] = [{"agent": first, "options": {"max_minutes": minutes, **rounds}}, *others]
    try:
        return _input_class(pattern).model_validate(given)
    except ValidationError as error:
        first_error = error.errors(include_input=False, include_url=False, include_context=False)[0]
        field = ".".join(str(part) for part in first_error["loc"]) or "input"
        raise InvalidInput(field, first_error["msg"].removeprefix("Value error, ")) from None


def _input_class(pattern: str) -> type[RunInput | FlowInput]:
    """What the workflow of this type takes."""
    from qefleet.contracts import flows, patterns

    return flows.FlowInput if pattern == "Flow" else getattr(patterns, f"{pattern}Input")


def absolute_target(text: str) -> str:
    """A folder as an absolute path; anything else as it is."""
    if text.startswith(("pypi:", "git+")):
        return text
    path = Path(text).expanduser()
    if not path.is_dir():
        raise InvalidInput("target", f"no folder {path}; or write git+https://…@ref, or pypi:name==version")
    return str(path.resolve())


def new_workflow_id(target: str) -> str:
    """A readable id that is new: `qe-boltons-1a2b3c`."""
    name = target.removeprefix("pypi:").partition("==")[0].removeprefix("git+").partition("@")[0]
    last = name.rstrip("/").removesuffix(".git").rpartition("/")[2]
    readable = re.sub(r"[^a-z0-9]+", "-", last.lower()).strip("-")[:40] or "run"
    return f"qe-{readable}-{secrets.token_hex(3)}"


def _as_object(base: Any) -> dict[str, Any]:
    match base:
        case None:
            return {}
        case str():
            return {"target": base}
        case dict():
            return dict(base)  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType] - parsed JSON
        case _:
            raise InvalidInput("input", "should be a JSON object, or a string with the target")


def _threshold(text: str) -> tuple[str, float | int | None]:
    name, equals, value = text.partition("=")
    if equals and value in ("none", "null"):
        return name, None
    try:
        number = float(value)
    except ValueError:
        raise InvalidInput(f"thresholds.{name}", "write --threshold line_percent_min=80, or =none") from None
    return name, int(number) if number.is_integer() else number

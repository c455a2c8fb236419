"""What each agent's page shows it on, and when a person wants it: the part that no declaration tells."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "docs" / "agents"
_SHOP = "shop"


@dataclass(frozen=True, kw_only=True)
class Example:
    """A run whose result is kept for an agent's page."""

    target: str = ""
    """`pypi:name==version`, or a folder of `docs/agents/examples`; the agent's own, or `shop`, without it."""
    options: dict[str, Any] = field(default_factory=dict[str, Any])
    before: tuple[str, ...] = ()
    """Agents whose results it works on."""
    thresholds: dict[str, Any] = field(default_factory=dict[str, Any])
    before_change: tuple[tuple[str, str, str], ...] = ()
    """For diff mode: a file, a text in it, and what stood there in the commit before."""


_PRICES_BEFORE = (
    (
        "src/shop/prices.py",
        "def total(prices: list[float], percent_off: float = 0.0)",
        "def total(prices, rebate=0.0)",
    ),
    ("src/shop/prices.py", "(100 - percent_off)", "(100 - rebate)"),
)

EXAMPLES: dict[str, Example] = {
    "test-executor": Example(target="pypi:tabulate==0.10.0"),
    "coverage-analyzer": Example(target="pypi:tabulate==0.10.0"),
    "quality-gate": Example(
        target="pypi:tabulate==0.10.0",
        before=("test-executor", "coverage-analyzer"),
        thresholds={"line_percent_min": 90},
    ),
    "deployment-readiness": Example(before=("test-executor", "coverage-analyzer")),
    "flaky-test-hunter": Example(options={"runs": 20}),
    "regression-risk-analyzer": Example(before_change=_PRICES_BEFORE),
    "test-data-architect": Example(options={"rows": 200}),
    "api-contract-validator": Example(
        options={"command": ["python", "server/front.py", "PORT"]}, before_change=_PRICES_BEFORE
    ),
    "performance-tester": Example(
        options={
            "command": ["{python}", "server/front.py", "8000"],
            "paths": [{"path": "/health", "weight": 2}, {"path": "/report"}],
            "thresholds": {"p95_ms": 50},
            "duration_s": 5,
        }
    ),
    "chaos-engineer": Example(
        options={
            "services": {
                "store": {"command": ["{python}", "server/store.py", "{port}"], "port": 5001},
                "front": {"command": ["{python}", "server/front.py", "{port}"], "port": 5000},
            },
            "probes": [{"service": "front", "path": "/stock"}, {"service": "front", "path": "/health"}],
            "experiments": [
                {"service": "store", "fault": "reset", "every": 2, "duration_s": 2},
                {"service": "store", "fault": "kill", "duration_s": 2},
            ],
        }
    ),
}
"""By agent's id, where the default won't do."""

WHEN: dict[str, str] = {
    "test-generator": "You want tests for what nothing tests yet, and only such as pass, "
    "reach something new and would notice a mistake.",
    "test-executor": "You want to know whether the suite passes in a clean environment, and what fails.",
    "coverage-analyzer": "You want to know what the tests reach, what this run has added, and "
    "where the largest gaps are.",
    "quality-gate": "You want one answer from all that was measured, by rules that you can read.",
    "fleet-commander": "You have a request in words and no plan.",
    "requirements-validator": "You write scenarios, and want to know which of them a test stands for.",
    "quality-analyzer": "You want lint, types, dead code and docstrings in one list, and "
    "whether it gets better or worse.",
    "code-complexity": "You want the functions that are hardest to read and to test, and how "
    "they have moved.",
    "security-scanner": "You want to know of weak code, secrets and vulnerable dependencies "
    "before others do.",
    "flaky-test-hunter": "Your build is red now and then, and green when it is started again.",
    "regression-risk-analyzer": "You have changed something, and want to run the tests that can notice "
    "first.",
    "test-data-architect": "You need rows that fit a schema, its edge cases, or real data with nobody in it.",
    "api-contract-validator": "You publish an API, and want to know what a change breaks for those "
    "who use it.",
    "performance-tester": "You want latency and errors under load, held against limits and the last run.",
    "chaos-engineer": "You want to know what your system does when what it depends on is slow or gone.",
    "visual-tester": "You want to see what a change does to pages, and who can't use them.",
    "production-intelligence": "You have logs and test reports of weeks, and want what is new or "
    "rising in them.",
    "deployment-readiness": "You are about to publish a package, and want to know that it builds, "
    "installs and may be given away.",
}
"""By agent's id: a sentence for who looks for the right one."""


def example_of(agent_id: str) -> Example:
    """What an agent is shown on."""
    return EXAMPLES.get(agent_id, Example())


def target_of(agent_id: str) -> str:
    """Its target: a package, or a folder's name below `docs/agents/examples`."""
    own = FOLDER / "examples" / agent_id
    return example_of(agent_id).target or (agent_id if own.is_dir() else _SHOP)


def input_of(agent_id: str) -> dict[str, Any]:
    """The input of the Pipeline that shows it, without its target."""
    example = example_of(agent_id)
    spec: Any = {"agent": agent_id, "options": example.options} if example.options else agent_id
    value: dict[str, Any] = {"agents": [*example.before, spec]}
    return value | ({"thresholds": example.thresholds} if example.thresholds else {})

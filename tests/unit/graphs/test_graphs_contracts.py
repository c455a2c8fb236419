"""Operations that are written by hand, and how results go into a context."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from qefleet.contracts.flows import FlowInput, FlowStep
from qefleet.contracts.measured import Measured, Measurement
from qefleet.contracts.operations import Operation
from qefleet.contracts.runs import AgentResult, StepError
from qefleet.graphs.context import shown_context
from qefleet.graphs.dependencies import as_dependencies


def test_a_flow_written_by_hand() -> None:
    """Operations need no graph, and no target where no agent is run."""
    flow = FlowInput.model_validate(
        {
            "steps": [
                {"id": "ask", "operation": {"kind": "chat", "parameters": {"instruction": "Why?"}}},
                {"id": "go-on", "depends_on": ["ask"], "operation": {"kind": "communicate"}},
            ]
        }
    )

    assert flow.target is None


@pytest.mark.parametrize(
    ("operation", "message"),
    [
        ({"kind": "run"}, "kind"),
        ({"kind": "operate", "parameters": {"persist_dir": "/"}}, "parameters.persist_dir"),
        ({"kind": "chat", "parameters": {"tools": ["x"]}}, "parameters.tools"),
        ({"kind": "chat", "settings": {"base_url": "http://x"}}, "settings.base_url"),
        ({"kind": "parse"}, "parameters.text"),
        ({"kind": "given"}, "given needs either"),
        ({"kind": "given", "parameters": {"run": "x"}}, "run and step go together"),
        ({"kind": "given", "parameters": {"run": "x", "step": "y"}}, "parameters.run: no run's id"),
        ({"kind": "chat", "inherit_from": "a"}, "inherit_from"),
        ({"kind": "chat", "own": True, "inherit_from": "nobody"}, "must stand in depends_on"),
        ({"kind": "chat", "node": "a b"}, "node"),
    ],
)
def test_what_is_refused(operation: dict[str, Any], message: str) -> None:
    """What lionagi would take but a flow has no business with is refused by name."""
    with pytest.raises(ValidationError, match=message):
        FlowStep.model_validate({"id": "a", "operation": operation})


def test_objects_travel_as_text() -> None:
    """The order of keys survives a store that sorts them."""
    operation = Operation(kind="chat", parameters={"instruction": "x", "context": {"b": 1, "a": "\ud800"}})

    stored = operation.model_dump(mode="json")

    assert stored["parameters"] == '{"instruction": "x", "context": {"b": 1, "a": "\\ud800"}}'
    assert Operation.model_validate(stored) == operation


CONTEXTS: list[tuple[dict[str, Any], dict[str, Any] | None, list[dict[str, Any]], dict[str, Any]]] = [
    ({}, None, [{}], {}),
    ({}, {}, [{}], {"context": {}}),
    ({}, {"n": "said"}, [{}], {"context": {"n_result": "said"}}),
    ({"context": {"a": 1}}, {"n": None}, [{}], {"context": {"a": 1, "n_result": None}}),
    ({"context": [1]}, {"n": 2}, [{}], {"context": {"original_context": [1], "n_result": 2}}),
    ({"context": None}, {"n": 2}, [{}], {"context": {"original_context": None, "n_result": 2}}),
    ({}, {"n": ["x", "y"]}, [{}], {"context": {"n_result": {0: "x", 1: "y"}}}),
    ({}, None, [{"a": {"b": 1}}, {"a": {"c": 2}}], {"context": {"a": {"b": 1, "c": 2}}}),
    ({"context": "x"}, None, [{"a": 1}], {"context": {"original_context": "x", "a": 1}}),
]


@pytest.mark.parametrize(("parameters", "results", "shared", "expected"), CONTEXTS)
def test_contexts(
    parameters: dict[str, Any], results: dict[str, Any] | None, shared: list[Any], expected: dict[str, Any]
) -> None:
    """Results come under their node's id, the flow's context after them, and what was there stays."""
    assert shown_context(parameters, results=results, shared=shared) == expected


def test_what_a_node_sees_of_other_steps() -> None:
    """An agent's figures and judgement, a node's bare result, a failure's message."""
    flow = [
        FlowStep.model_validate({"id": "cover", "agent": "coverage-analyzer"}),
        FlowStep.model_validate({"id": "both", "agents": ["test-executor", "quality-gate"]}),
        FlowStep.model_validate({"id": "node", "operation": {"kind": "chat"}}),
        FlowStep.model_validate({"id": "broken", "operation": {"kind": "chat"}}),
    ]
    metrics = {"coverage.line_percent": Measured(value=80, unit="%", tool=0)}
    results = [
        AgentResult(
            step="cover",
            agent="coverage-analyzer",
            status="completed",
            headline="80 %",
            measured=Measurement(metrics=dict(metrics)),
            judged={"summary": "fine"},
        ),
        AgentResult(step="both.test-executor", agent="test-executor", status="completed"),
        AgentResult(step="node", agent="lionagi", status="completed", judged={"result": [1]}),
        AgentResult(
            step="broken",
            agent="lionagi",
            status="failed",
            error=StepError(type="ModelRefused", message="no"),
        ),
    ]

    assert as_dependencies(flow, results) == {
        "cover": {
            "headline": "80 %",
            "decision": None,
            "measured": {"coverage.line_percent": 80},
            "judged": {"summary": "fine"},
        },
        "both": {"test-executor": {"headline": "", "decision": None, "measured": {}, "judged": None}},
        "node": [1],
        "broken": {"error": "no"},
    }

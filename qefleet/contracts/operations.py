"""An operation of a lionagi graph, as a durable step: one call of a Branch's method.

Which parameters an operation takes stands here, as a list of what is allowed: a flow is written by its user,
and lionagi's methods take more than that, such as folders to write to and live objects.
"""

from __future__ import annotations

import json
import re
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, PlainSerializer, StringConstraints, model_validator

from qefleet.contracts.base import Model

_RUN = r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$"


def _object(value: Any) -> Any:
    return json.loads(value) if isinstance(value, str) else value


Ordered = Annotated[
    dict[str, Any],
    BeforeValidator(_object),
    PlainSerializer(json.dumps, return_type=str, when_used="json"),
]
"""An object that is shown to a model: it travels as JSON text, since Postgres forgets the order of keys."""

OperationKind = Literal["communicate", "operate", "chat", "parse", "given"]
BranchName = Annotated[str, StringConstraints(min_length=1, max_length=64)]

REQUEST_FIELDS = frozenset(
    {
        "frequency_penalty", "logit_bias", "max_completion_tokens", "max_tokens", "model", "presence_penalty",
        "reasoning_effort", "seed", "stop", "stop_sequences", "temperature", "top_k", "top_p", "user",
    }
)  # fmt: skip
"""What goes on to the provider as it is."""

_TURN = frozenset({"instruction", "guidance", "context", "images", "image_detail", "response_format"})
PARAMETERS: dict[OperationKind, frozenset[str]] = {
    "communicate": _TURN
    | {"plain_content", "request_fields", "skip_validation", "num_parse_retries", "clear_messages"}
    | REQUEST_FIELDS,
    "operate": _TURN
    | {"instruct", "reason", "skip_validation", "handle_validation", "clear_messages"}
    | REQUEST_FIELDS,
    "chat": _TURN | {"plain_content", "request_fields"} | REQUEST_FIELDS,
    "parse": frozenset(
        {
            "text", "handle_validation", "max_retries", "similarity_algo", "similarity_threshold",
            "fuzzy_match", "handle_unmatched", "fill_value", "fill_mapping", "strict", "response_format",
        }
    ),
    "given": frozenset({"result", "run", "step"}),
}  # fmt: skip
"""Names of the parameters that each kind takes."""


class ResponseModel(Model):
    """A Pydantic class that an answer is to fit, as far as JSON can say it."""

    json_schema: Ordered
    shape: Ordered | None = None
    """How lionagi shows its fields to the model: their annotations as text; as rebuilt without it."""


class Said(Model):
    """A message of a conversation, as lionagi's content of it in JSON."""

    role: Literal["user", "assistant"]
    content: Ordered


class Operation(Model):
    """What a node of a lionagi graph does."""

    kind: OperationKind
    """The Branch's method. `given` makes no call: it takes over a result that is known already."""
    parameters: Ordered = {}
    """As the method takes them, as JSON; see `PARAMETERS`.

    For `given` either `result`, or `run` and `step` where another run has it.
    """
    response: ResponseModel | None = None
    """In place of the parameter `response_format`, where that is a Pydantic class."""
    context: Ordered = {}
    """Shown to the model after the results of the steps that this one depends on."""
    branch: BranchName = "main"
    """Name of the conversation that it goes on with."""
    own: bool = False
    """Talks on a copy of the branch as it was before the flow, which no other step goes on with."""
    inherit_from: str | None = None
    """One of `depends_on`: the copy is of that step's conversation."""
    system: Annotated[str, Field(max_length=100_000)] | None = None
    """The branch's system message; stands with one of its steps."""
    opening: list[Said] = []
    """What was said on the branch before the flow; stands with one of its steps."""
    model: Annotated[str, Field(max_length=256)] | None = None
    """`provider/name` or `local`, where the branch has a model of its own."""
    settings: dict[str, Any] = {}
    """The model's own settings, such as `temperature`; see `REQUEST_FIELDS`."""
    node: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]+$", max_length=64)] | None = None
    """The node's id in lionagi: steps that depend on it see its result under `{node}_result`."""

    @model_validator(mode="after")
    def _known(self) -> Self:
        if unknown := sorted(self.parameters.keys() - PARAMETERS[self.kind]):
            raise ValueError(f"parameters.{unknown[0]}: {self.kind} takes no such parameter in a flow")
        if unknown := sorted(self.settings.keys() - REQUEST_FIELDS):
            raise ValueError(f"settings.{unknown[0]}: no setting that goes to a model")
        if self.inherit_from is not None and not self.own:
            raise ValueError("inherit_from: a copy is made where own is true")
        if self.response and "response_format" in self.parameters:
            raise ValueError("response: stands in place of parameters.response_format")
        if self.kind == "parse" and not isinstance(self.parameters.get("text"), str):
            raise ValueError("parameters.text: parse needs a text")
        if self.kind == "given" and ("result" in self.parameters) == ("run" in self.parameters):
            raise ValueError("parameters: given needs either result, or run and step")
        if ("run" in self.parameters) != ("step" in self.parameters):
            raise ValueError("parameters: run and step go together")
        if "run" in self.parameters and not re.match(_RUN, str(self.parameters["run"])):
            raise ValueError("parameters.run: no run's id")
        return self

"""A session's branches as JSON: name, system message, what was said on them, and their model."""

# lionagi's own signatures leave much bare.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast
from uuid import UUID

from lionagi import Branch, Session
from lionagi.protocols.messages import AssistantResponse, Instruction
from lionagi.service.connections import match_endpoint

from qefleet.contracts.operations import REQUEST_FIELDS, Said
from qefleet.errors import GraphError
from qefleet.graphs.plain import plain

MAIN = "main"
"""The branch of nodes that name none: the session's default branch."""


@dataclass(frozen=True, kw_only=True)
class Beginning:
    """A branch as it is before the flow."""

    name: str
    system: str | None = None
    opening: list[Said] = field(default_factory=list[Said])
    model: str | None = None
    settings: dict[str, Any] = field(default_factory=dict[str, Any])


class Branches:
    """Looks branches up by their ids, and names them.

    Args:
        session: Where they are included; without it there is only a default branch without a past.
        model: The model for all of them, in place of their own.
    """

    def __init__(self, session: Session | None, *, model: str | None) -> None:
        self._session = session
        self._model = model
        self._known: dict[UUID, Beginning] = {}
        self._names = {MAIN}

    def default(self) -> Beginning:
        """The session's default branch."""
        if self._session is None:
            return Beginning(name=MAIN, model=self._model)
        branch = cast("Branch", self._session.default_branch)
        if branch.id not in self._known:
            self._known[branch.id] = self._begin(branch, MAIN)
        return self._known[branch.id]

    def of(self, branch_id: UUID, *, node: str) -> Beginning:
        """The branch that a node was given.

        Raises:
            GraphError: It isn't in the session: `Session.flow` would silently use the default branch.
        """
        if self._session is None:
            raise GraphError(node, "runs on a branch of its own: pass session=, which the branch is in")
        if branch_id == self._session.default_branch.id:
            return self.default()
        if branch_id in self._known:
            return self._known[branch_id]
        if branch_id not in self._session.branches:
            raise GraphError(node, "its branch isn't in the session: session.include_branches(branch) first")
        branch = cast("Branch", self._session.branches[branch_id])
        wanted = (branch.name or f"branch-{len(self._known) + 1}")[:60]
        name = next(
            name for name in (wanted, *(f"{wanted}-{n}" for n in range(2, 1000))) if name not in self._names
        )
        self._names.add(name)
        self._known[branch_id] = self._begin(branch, name)
        return self._known[branch_id]

    def _begin(self, branch: Branch, name: str) -> Beginning:
        where = f"branch {name}"
        if branch._context_providers and branch._context_providers.names:  # noqa: SLF001  # pyright: ignore[reportPrivateUsage] - the public property makes a registry
            raise GraphError(where, "has context providers, which are Python: put what they say into context")
        return Beginning(
            name=name,
            system=branch.system.rendered if branch.system else None,
            opening=_said(branch, where),
            model=self._model or _model_of(branch, where),
            settings=_settings_of(branch, where),
        )


def _said(branch: Branch, where: str) -> list[Said]:
    said: list[Said] = []
    for message in (branch.msgs.messages[key] for key in branch.progression):
        match message:
            case Instruction():
                said.append(Said(role="user", content=content_of(message, where=where)))
            case AssistantResponse():
                said.append(Said(role="assistant", content=content_of(message, where=where)))
            case _ if message is branch.system:
                continue
            case _:
                raise GraphError(where, f"holds a {type(message).__name__}: use a branch without tool calls")
    return said


def content_of(message: Instruction | AssistantResponse, *, where: str) -> dict[str, Any]:
    """What a message says, as JSON from which lionagi renders the same text."""
    content = message.content.to_dict()
    content.pop("response_format", None)  # never shown again once it is history
    return plain(content, "a message", node=where)


def _model_of(branch: Branch, where: str) -> str:
    chat, endpoint = branch.chat_model, branch.chat_model.endpoint
    if chat.is_cli:
        raise GraphError(where, "talks to a program on this machine: pass model= for the fleet's own models")
    if branch.parse_model is not chat:
        raise GraphError(where, "has a parse_model of its own: leave it out, or pass model=")
    provider = str(endpoint.config.provider)
    standard = match_endpoint(provider=provider, endpoint="chat", model=chat.model_name)
    if standard.config.base_url != endpoint.config.base_url:
        raise GraphError(
            where,
            f"reaches its model at an address of its own: the gateway knows {provider} by its settings; "
            "pass model=, such as model='openai/gpt-4.1-mini'",
        )
    return f"{provider}/{chat.model_name}"


def _settings_of(branch: Branch, where: str) -> dict[str, Any]:
    configured = cast("Mapping[str, Any]", branch.chat_model.endpoint.config.kwargs)
    settings = {key: value for key, value in configured.items() if key in REQUEST_FIELDS - {"model"}}
    return plain(settings, "its model's settings", node=where)

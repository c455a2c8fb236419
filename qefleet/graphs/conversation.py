"""What each step of a flow goes on from: which turns of a conversation it sees.

A branch is shared by steps that may run at once, so that in `Session.flow` what a step sees can depend on who
is quicker. Here it doesn't: a step sees the turns of the steps that end before it begins, in the graph's
order, and of no others. Pure functions over the flow's own JSON.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from qefleet.contracts.flows import FlowStep, ancestors
from qefleet.contracts.operations import Operation, Said

_SPEAKING = ("communicate", "operate", "given")
"""Kinds whose messages stay in the conversation; `given` takes over those of another run."""
_BEFORE_THE_FLOW = ("given",)


@dataclass(frozen=True, kw_only=True)
class Conversation:
    """What was said before a step begins.

    Args:
        system: The system message that holds for the step.
        opening: What was said before the flow.
        turns: Steps whose messages follow, in order.
    """

    system: str | None
    opening: Sequence[Said]
    turns: Sequence[str]


def conversation_of(flow: Sequence[FlowStep], step: str) -> Conversation:
    """What one of the flow's operations goes on from."""
    seen = _Seen(flow, step)
    operation = seen.operation(step)
    branch, turns = seen.before(step)
    fresh = next(
        (place for place in range(len(turns), 0, -1) if _clears(seen.operation(turns[place - 1]))), None
    )
    nothing: list[Said] = []
    begun = next((other.opening for other in seen.on(branch) if other.opening), nothing)
    system = (other.system for other in seen.on(operation.branch) if other.system is not None)
    return Conversation(
        system=next(system, None),
        opening=begun if fresh is None else nothing,
        turns=turns if fresh is None else turns[fresh - 1 :],
    )


class _Seen:
    """The flow as far as it has ended when a step begins."""

    def __init__(self, flow: Sequence[FlowStep], step: str) -> None:
        self._operations = {one.id: one.operation for one in flow if one.operation}
        self._ended = [earlier for earlier in ancestors(flow)[step] if earlier in self._operations]

    def operation(self, step: str) -> Operation:
        return self._operations[step]

    def on(self, branch: str) -> list[Operation]:
        """All operations that name the branch, ended or not: its beginning stands with any of them."""
        return [operation for operation in self._operations.values() if operation.branch == branch]

    def before(self, step: str) -> tuple[str, list[str]]:
        """The branch whose opening comes first, and the turns after it."""
        operation = self.operation(step)
        if operation.inherit_from is None:
            shared = [
                other
                for other in self._ended
                if self.operation(other).branch == operation.branch
                and not self.operation(other).own
                and self.operation(other).kind in (_BEFORE_THE_FLOW if operation.own else _SPEAKING)
            ]
            return operation.branch, shared
        branch, turns = self.before(operation.inherit_from)
        source = self.operation(operation.inherit_from)
        if source.own and source.kind in _SPEAKING:
            return branch, [*turns, operation.inherit_from]
        return branch, turns  # a shared branch: its turns are among those that have ended


def _clears(operation: Operation) -> bool:
    return bool(operation.parameters.get("clear_messages"))

"""Drawings of histories in the docs, as Mermaid flowcharts, compared with what really happened.

A box is an activity, by its summary (`test-executor: measure`), a subgraph a child workflow, by its type and
summary; `…` stands for any text. An arrow claims that the first of one ended before the first of the other
began.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from temporalio.api.enums.v1 import EventType
from temporalio.api.history.v1 import HistoryEvent
from temporalio.client import Client
from temporalio.converter import default

_BOX = re.compile(r'(?P<id>\w+)(?:\["(?P<label>[^"]*)"\])')
_SUBGRAPH = re.compile(r'^subgraph (?P<id>\w+)\["(?P<label>[^"]*)"\]$')


@dataclass(frozen=True)
class Done:
    """An activity or a child workflow of a run, as its history has it."""

    label: str
    parent: str
    """Id of the workflow whose history it is in."""
    inside: tuple[str, ...]
    """Labels of the child workflows that it is in, the outermost first."""
    child: str
    """Id of the child workflow that it is; empty for an activity."""
    began: int
    ended: int
    """Both in nanoseconds."""


@dataclass
class Drawing:
    """A flowchart: labels of boxes by the subgraphs that they are in, and arrows between ids."""

    boxes: dict[str, tuple[str, tuple[str, ...]]] = field(default_factory=dict[str, Any])
    arrows: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])

    @classmethod
    def parse(cls, text: str) -> Drawing:
        """Read Mermaid, as far as the docs use it."""
        drawing, inside = cls(), list[str]()
        for line in map(str.strip, text.splitlines()):
            if line == "end":
                inside.pop()
            elif found := _SUBGRAPH.match(line):
                drawing.boxes[found["id"]] = (found["label"], tuple(inside))
                inside.append(found["label"])
            elif not line.startswith("flowchart"):
                drawing._add(line, tuple(inside))
        return drawing

    def _add(self, line: str, inside: tuple[str, ...]) -> None:
        for found in _BOX.finditer(line):
            self.boxes[found["id"]] = (found["label"], inside)
        groups = [re.sub(_BOX, r"\g<id>", group).split("&") for group in line.split("-->")]
        for ones, others in itertools.pairwise(groups):
            self.arrows += [(one.strip(), other.strip()) for one in ones for other in others]

    def _found(self, history: Sequence[Done]) -> dict[str, list[Done]]:
        """What each box stands for: all that it fits most exactly; equal boxes share it, in their order."""
        fitting: dict[tuple[str, tuple[str, ...]], list[Done]] = {}
        for done in sorted(history, key=lambda done: done.began):
            boxes = [box for box in self.boxes.values() if _is(done, *box)]
            if boxes:
                best = max(boxes, key=lambda box: len(box[0].replace("…", "")))
                fitting.setdefault(best, []).append(done)
        found: dict[str, list[Done]] = {name: [] for name in self.boxes}
        for box, dones in fitting.items():
            names, place = [name for name, other in self.boxes.items() if other == box], -1
            for done in dones:
                begins = done.child or done.label == dones[0].label
                place = min(place + bool(begins), len(names) - 1)
                found[names[place]].append(done)
        return found

    def differences(self, history: Sequence[Done]) -> list[str]:
        """What is drawn and didn't happen so, and what happened and isn't drawn."""
        found = self._found(history)
        problems = [f"{self.boxes[name][0]!r} didn't happen" for name, dones in found.items() if not dones]
        drawn = {id(done) for dones in found.values() for done in dones}
        problems += [f"{done.label!r} isn't drawn" for done in history if id(done) not in drawn]
        if problems:
            return problems
        return [
            f"{self.boxes[one][0]!r} didn't end before {self.boxes[other][0]!r} began"
            for one, other in self.arrows
            if not _in_order(found[one], found[other])
        ]


async def history_of(client: Client, workflow_id: str, inside: tuple[str, ...] = ()) -> list[Done]:
    """All activities and child workflows of a run, those of its children too."""
    events = [event async for event in client.get_workflow_handle(workflow_id).fetch_history_events()]
    found: list[Done] = []
    for event, label, child in _begun(events):
        ended = max(e.event_time.ToNanoseconds() for e in events if _ends(e, event.event_id))
        found.append(Done(label, workflow_id, inside, child, event.event_time.ToNanoseconds(), ended))
        if child:
            found += await history_of(client, child, (*inside, label))
    return found


def _begun(events: Sequence[HistoryEvent]) -> Iterator[tuple[HistoryEvent, str, str]]:
    for event in events:
        summary = (
            default().payload_converter.from_payload(event.user_metadata.summary)
            if (event.user_metadata.HasField("summary"))
            else ""
        )
        if event.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED:
            yield event, summary, ""
        elif event.event_type == EventType.EVENT_TYPE_START_CHILD_WORKFLOW_EXECUTION_INITIATED:
            child = event.start_child_workflow_execution_initiated_event_attributes
            yield event, f"{child.workflow_type.name}: {summary}", child.workflow_id


def _ends(event: HistoryEvent, begun: int) -> bool:
    return begun in (
        event.activity_task_completed_event_attributes.scheduled_event_id,
        event.activity_task_failed_event_attributes.scheduled_event_id,
        event.child_workflow_execution_completed_event_attributes.initiated_event_id,
    )


def _in_order(ones: Sequence[Done], others: Sequence[Done]) -> bool:
    """In each workflow that has both, the first of the ones ended before the first of the others began."""
    parents = {done.parent for done in ones} & {done.parent for done in others}
    return bool(parents) and all(
        min(done.ended for done in ones if done.parent == parent)
        <= min(done.began for done in others if done.parent == parent)
        for parent in parents
    )


def _is(done: Done, label: str, inside: tuple[str, ...]) -> bool:
    return (
        _matches(label, done.label)
        and len(inside) == len(done.inside)
        and all(map(_matches, inside, done.inside))
    )


def _matches(drawn: str, real: str) -> bool:
    return re.fullmatch(".*".join(re.escape(part) for part in drawn.split("…")), real, re.DOTALL) is not None

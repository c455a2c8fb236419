"""todo-counter: counts the comments that say what is still to be done, and has a model pick the first."""

from __future__ import annotations

import re
import tokenize
from pathlib import Path

from pydantic import BaseModel

from qefleet.agents import (
    Agent,
    Finding,
    Item,
    Judgement,
    Measure,
    Measured,
    Measurement,
    Model,
    StepContext,
    ToolRun,
    is_about,
    keep_evidence,
)

_VERSION = "1.0"
_SHOWN = 20


class TodoOptions(Model):
    """What can be set in a run's input, under `options`; each field has a default."""

    marks: list[str] = ["TODO", "FIXME"]


class Todo(Model):
    """One comment."""

    path: str
    line: int
    text: str


class TodoDetails(Model):
    """The typed `details` of its measurement."""

    todos: list[Todo]
    unreadable: list[str]


class FirstTodo(BaseModel):
    """The model's part, which is kept apart from what was measured."""

    comment: str
    why: str


async def _measure(ctx: StepContext) -> Finding:
    options: TodoOptions = ctx.options
    async with ctx.workspace() as workspace:
        details = find_todos(workspace.project, options.marks, ctx.item)
    found = details.model_dump_json(indent=1).encode()
    kept = await ctx.artifacts.put(found, name="todos.json", media_type="application/json")
    tool = ToolRun(
        tool="todo-agent (tokenize)",
        version=_VERSION,
        argv=["find_todos", *options.marks],
        exit_code=0,
        duration_s=0.0,
        artifact=kept,
    )
    files = sorted({todo.path for todo in details.todos})
    evidence = [todo.model_dump() for todo in details.todos[:_SHOWN]]
    return Finding(
        measurement=Measurement(
            metrics={
                "todo.comments": Measured(value=len(details.todos), unit="comments", tool=0),
                "todo.files": Measured(value=len(files), unit="files", tool=0),
            },
            tools=[tool],
            details=details.model_dump(mode="json"),
        ),
        headline=f"{len(details.todos)} comments to do in {len(files)} files",
        artifacts=[kept],
        evidence=await keep_evidence(ctx.artifacts, evidence) if evidence else None,
        items=None if ctx.item else await ctx.keep_items([Item(id=path, paths=[path]) for path in files]),
    )


def find_todos(project: Path, marks: list[str], item: Item | None = None) -> TodoDetails:
    """Read a project's Python files; nothing of it is imported or run.

    Args:
        project: Its folder.
        marks: Words with which such a comment begins.
        item: The part of the project to keep to.
    """
    mark = re.compile(rf"#+\s*({'|'.join(map(re.escape, marks))})\b")
    todos: list[Todo] = []
    unreadable: list[str] = []
    for file in sorted(project.rglob("*.py")):
        path = file.relative_to(project).as_posix()
        if file.is_symlink() or not is_about(item, path):
            continue
        try:
            with file.open("rb") as source:
                comments = [t for t in tokenize.tokenize(source.readline) if t.type == tokenize.COMMENT]
        except (SyntaxError, tokenize.TokenError, UnicodeDecodeError):
            unreadable.append(path)
            continue
        todos += [Todo(path=path, line=t.start[0], text=t.string) for t in comments if mark.match(t.string)]
    return TodoDetails(todos=todos, unreadable=unreadable)


TODO_COUNTER = Agent(
    id="todo-counter",
    title="todo-counter",
    purpose="Counts comments such as TODO and FIXME, and says which to do first.",
    tier="simple",
    tools=("tokenize",),
    measures=(
        Measure("todo.comments", "comments", additive=True),
        Measure("todo.files", "files", additive=True),
    ),
    options=TodoOptions,
    measure=_measure,
    judgement=Judgement(prompt="todo-counter", response=FirstTodo, package="todo_agent"),
    memory_key="todo-counter/last_count",
)

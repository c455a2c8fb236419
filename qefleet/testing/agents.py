"""Agents for tests of crashes and of many items: none looks at a file, so only the fleet itself is busy.

They are no part of the fleet; a test puts them beside it with `lay_distribution`, as a user's own agents are.
"""

from __future__ import annotations

import asyncio
from typing import Annotated

from pydantic import BaseModel, Field

from qefleet.agents import (
    Agent,
    Finding,
    Judgement,
    Measure,
    Measured,
    Measurement,
    Model,
    StepContext,
    ToolRun,
    keep_evidence,
)
from qefleet.errors import MissingTool


class Echo(BaseModel):
    """What a model says about an item."""

    text: str


class SlowOptions(Model):
    """How slow."""

    seconds: Annotated[float, Field(ge=0)] = 5.0


def _counted(name: str) -> Measurement:
    """One, of the agent's own doing: summed over items it tells how many were run."""
    run = ToolRun(tool="qefleet.testing", version="1", argv=[name], exit_code=0, duration_s=0.0)
    return Measurement(metrics={"echo.items": Measured(value=1, unit="items", tool=0)}, tools=[run])


async def _echo(ctx: StepContext) -> Finding:
    named = {"id": ctx.item.id, "title": ctx.item.name} if ctx.item else {"id": ctx.step}
    return Finding(
        measurement=_counted("echo-item"),
        headline=named["id"],
        evidence=await keep_evidence(ctx.artifacts, named),
    )


async def _fail(ctx: StepContext) -> Finding:
    raise MissingTool(f"{ctx.step} fails, as it was made to: nothing installs what it lacks")


async def _hang(ctx: StepContext) -> Finding:
    await asyncio.Event().wait()
    raise AssertionError(f"{ctx.step} was not stopped")


async def _be_slow(ctx: StepContext) -> Finding:
    options: SlowOptions = ctx.options
    await asyncio.sleep(options.seconds)
    return Finding(measurement=_counted("slow"), headline=f"took {options.seconds:g} s")


_ONE = (Measure("echo.items", "items", additive=True),)

ECHO_ITEM = Agent(
    id="echo-item",
    title="echo-item",
    purpose="Asks a model one small question about an item.",
    tier="simple",
    tools=(),
    measures=_ONE,
    measure=_echo,
    judgement=Judgement(prompt="echo-item", response=Echo, package="qefleet.testing"),
    memory_key="testing/echo-item",
)
FAILING = Agent(
    id="failing",
    title="failing",
    purpose="Fails at once, with MissingTool.",
    tier="simple",
    tools=(),
    measure=_fail,
    memory_key="testing/failing",
)
HANGING = Agent(
    id="hanging",
    title="hanging",
    purpose="Never ends by itself.",
    tier="simple",
    tools=(),
    measure=_hang,
    memory_key="testing/hanging",
)
SLOW = Agent(
    id="slow",
    title="slow",
    purpose="Ends after a while.",
    tier="simple",
    tools=(),
    measures=_ONE,
    options=SlowOptions,
    measure=_be_slow,
    memory_key="testing/slow",
)

AGENTS = (ECHO_ITEM, FAILING, HANGING, SLOW)

"""How long an agent takes besides its tools."""

from __future__ import annotations

import os
import time

from agent_context import measure_alone

from qefleet.agents.agent import Agent
from qefleet.tools.ground import Ground


async def own_seconds(agent: Agent, ground: Ground) -> tuple[float, float]:
    """Seconds of our own code around the tools, and how many are allowed: 0.2, or 5 % of the tools' time.

    Wall time on a quiet machine; processor time where others keep it busy, since waiting isn't our code's.
    """
    started = time.process_time()
    alone = await measure_alone(agent, ground)
    used_s = time.process_time() - started
    tools_s = alone.took_s - alone.overhead_s
    busy = os.getloadavg()[0] > (os.cpu_count() or 1) / 2
    return (used_s if busy else alone.overhead_s), max(0.2, 0.05 * tools_s)

"""The first and the last activities of every run."""

from __future__ import annotations

from activities.edge import implements
from qefleet.contracts.ports import RunPort
from qefleet.contracts.steps import Closed, CloseRun, OpenRun, Plan, RunRef
from qefleet.contracts.targets import Environment, Snapshot
from qefleet.fleet.lifecycle import Lifecycle


class RunActivities(RunPort):
    """Opening a run, reading its target, installing what its code needs, writing its report."""

    def __init__(self, lifecycle: Lifecycle) -> None:
        self._lifecycle = lifecycle

    @implements(RunPort.open_run)
    async def open_run(self, request: OpenRun) -> Plan:
        return await self._lifecycle.open(request)

    @implements(RunPort.take_snapshot)
    async def take_snapshot(self, run: RunRef) -> Snapshot:
        return await self._lifecycle.take_snapshot(run)

    @implements(RunPort.prepare_environment)
    async def prepare_environment(self, run: RunRef) -> Environment:
        return await self._lifecycle.prepare_environment(run)

    @implements(RunPort.close_run)
    async def close_run(self, request: CloseRun) -> Closed:
        return await self._lifecycle.close(request)

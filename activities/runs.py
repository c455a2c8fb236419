"""The activities of a run as a whole: the first and the last ones, and the lists that it runs over."""

from __future__ import annotations

from activities.edge import implements
from qefleet.contracts.items import ItemList, ItemPage
from qefleet.contracts.ports import RunPort
from qefleet.contracts.steps import (
    AddedSteps,
    AddSteps,
    Closed,
    CloseRun,
    OpenRun,
    PageOfItems,
    Plan,
    RecordApproval,
    RunRef,
    StoreItems,
)
from qefleet.contracts.targets import Environment, Snapshot
from qefleet.fleet.lifecycle import Lifecycle


class RunActivities(RunPort):
    """Opening a run, reading its target, installing what it needs, listing items, writing its report."""

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

    @implements(RunPort.add_steps)
    async def add_steps(self, request: AddSteps) -> AddedSteps:
        return await self._lifecycle.add_steps(request)

    @implements(RunPort.store_items)
    async def store_items(self, request: StoreItems) -> ItemList:
        return await self._lifecycle.store_items(request)

    @implements(RunPort.page_of_items)
    async def page_of_items(self, request: PageOfItems) -> ItemPage:
        return await self._lifecycle.page_of_items(request)

    @implements(RunPort.record_approval)
    async def record_approval(self, request: RecordApproval) -> None:
        await self._lifecycle.record_approval(request)

    @implements(RunPort.close_run)
    async def close_run(self, request: CloseRun) -> Closed:
        return await self._lifecycle.close(request)

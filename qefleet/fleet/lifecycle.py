"""What happens to a run before its agents and after them."""

from __future__ import annotations

from pydantic import ValidationError

from qefleet.agents.agent import Agent, LoopOptions
from qefleet.agents.catalogue import Catalogue
from qefleet.contracts.runs import AgentSpec
from qefleet.contracts.steps import Closed, CloseRun, OpenRun, Plan, RunRef, StepPlan
from qefleet.contracts.targets import Environment, Snapshot
from qefleet.errors import InvalidInput
from qefleet.fleet.report import write_report
from qefleet.fleet.store import RunStore
from qefleet.llm.models import ModelChoice
from qefleet.memory.artifacts import Artifacts
from qefleet.workspace.workspace import Workspaces

DEFAULT_AGENTS = {"Pipeline": ("test-generator", "test-executor", "coverage-analyzer", "quality-gate")}


class Lifecycle:
    """Opens, prepares and closes runs.

    Args:
        catalogue: The agents there are.
        store: Where runs are kept.
        workspaces: Reads targets and builds environments.
        artifacts: Where reports and patches are kept.
        models: Which model is asked where the input names none.
        notes: What every run's result is to say, such as that code is run unconfined.
    """

    def __init__(
        self,
        *,
        catalogue: Catalogue,
        store: RunStore,
        workspaces: Workspaces,
        artifacts: Artifacts,
        models: ModelChoice,
        notes: tuple[str, ...] = (),
    ) -> None:
        self._catalogue = catalogue
        self._store = store
        self._workspaces = workspaces
        self._artifacts = artifacts
        self._models = models
        self._notes = notes

    async def open(self, request: OpenRun) -> Plan:
        """Check a run's input against the catalogue and enter it; doing it again changes nothing.

        Raises:
            InvalidInput: An agent, an option or the model is wrong; `field` names it.
        """
        run_input = request.input
        model = self._models.resolve(run_input.model)
        specs = run_input.agents or [AgentSpec(agent=agent) for agent in DEFAULT_AGENTS[request.pattern]]
        notes = list(self._notes)
        if model == "none":
            notes.append(
                "no model was used: nothing is judged, tests come from doctests and Hypothesis' ghostwriter"
            )
        plan = Plan(
            target=str(run_input.target),
            model=model,
            steps=[self._step(position, spec) for position, spec in enumerate(specs)],
            notes=notes,
        )
        await self._store.open(request, plan)
        return plan

    def _step(self, position: int, spec: AgentSpec) -> StepPlan:
        agent = self._catalogue.get(spec.agent, field=f"agents.{position}.agent")
        options = parse_options(agent, spec, field=f"agents.{position}.options")
        loop = options if isinstance(options, LoopOptions) else LoopOptions(max_rounds=1)
        return StepPlan(
            step=f"{agent.id}#{position}",
            agent=agent.id,
            title=agent.title,
            on_failure=spec.on_failure,
            looped=agent.loop is not None,
            max_rounds=loop.max_rounds,
            max_minutes=loop.max_minutes,
        )

    async def take_snapshot(self, run: RunRef) -> Snapshot:
        """Read the run's target, once: a second call gives what the first one found.

        Raises:
            TargetError: It can't be read or fetched.
        """
        entry = await self._store.load(run.run)
        if entry.snapshot:
            return entry.snapshot
        snapshot = await self._workspaces.snapshot(entry.input.target)
        return await self._store.set_snapshot(run.run, snapshot)

    async def prepare_environment(self, run: RunRef) -> Environment:
        """Install what the snapshot's code needs; a second call gives what the first one built.

        Raises:
            TargetError: The project can't be installed.
        """
        entry = await self._store.load(run.run)
        if entry.environment:
            return entry.environment
        environment = await self._workspaces.prepare(entry.require_snapshot())
        return await self._store.set_environment(run.run, environment)

    async def close(self, request: CloseRun) -> Closed:
        """Write the run's report and patch from what was recorded."""
        entry = await self._store.load(request.run)
        results = await self._store.results(request.run, request.steps)
        closed = await write_report(
            request,
            entry=entry,
            results=results,
            usage=await self._store.usage(request.run),
            artifacts=self._artifacts,
        )
        await self._store.close(request, closed)
        return closed


def parse_options(agent: Agent, spec: AgentSpec, *, field: str) -> object:
    """An agent's options, checked.

    Raises:
        InvalidInput: An option is unknown or has an unusable value.
    """
    try:
        return agent.options.model_validate(spec.options)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False, include_context=False)[0]
        path = ".".join([field, *(str(part) for part in first["loc"])])
        raise InvalidInput(path, first["msg"]) from None

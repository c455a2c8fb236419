"""What happens to a run before its agents and after them."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from qefleet.agents.agent import LoopOptions
from qefleet.agents.catalogue import Catalogue
from qefleet.agents.checks import check_condition, check_limits, check_options
from qefleet.contracts.flows import FlowStep, ancestors
from qefleet.contracts.items import Item, ItemList, ItemPage
from qefleet.contracts.learning import Policy, Strategy
from qefleet.contracts.patterns import StepSpec
from qefleet.contracts.runs import RunOptions
from qefleet.contracts.steps import (
    AddedSteps,
    AddSteps,
    Closed,
    CloseRun,
    ConditionCheck,
    OpenRun,
    PageOfItems,
    Plan,
    RecordApproval,
    RunRef,
    StepPlan,
    StoreItems,
)
from qefleet.contracts.targets import Environment, Snapshot
from qefleet.errors import InvalidInput, TargetError
from qefleet.fleet.report import write_report
from qefleet.fleet.store import RunStore
from qefleet.graphs.operate import AGENT as GRAPH_AGENT
from qefleet.llm.models import NO_MODEL, ModelChoice
from qefleet.memory.artifacts import Artifacts
from qefleet.tools.generation.pynguin import PYNGUIN
from qefleet.workspace.workspace import Workspaces

_FAIRNESS_BYTES = 64


class Lifecycle:
    """Opens, prepares and closes runs; lists what their expansions run over.

    Args:
        catalogue: The agents there are.
        store: Where runs are kept.
        workspaces: Reads targets and builds environments.
        artifacts: Where reports and patches are kept.
        models: Which model is asked where the input names none.
        flows: Flows that ship with the fleet, by name.
        learns: Strategies are chosen by what was rewarded, where a run doesn't say otherwise.
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
        flows: Mapping[str, Sequence[FlowStep]],
        learns: bool = False,
        notes: tuple[str, ...] = (),
    ) -> None:
        self._catalogue = catalogue
        self._store = store
        self._workspaces = workspaces
        self._artifacts = artifacts
        self._models = models
        self._flows = flows
        self._learns = learns
        self._notes = notes

    async def open(self, request: OpenRun) -> Plan:
        """Check a run's input against the catalogue and enter it; doing it again changes nothing.

        Raises:
            InvalidInput: An agent, an option or the model is wrong; `field` names it.
        """
        model = self._models.resolve(request.input.model)
        notes = list(self._notes)
        if model == "none":
            notes.append(
                "no model was used: nothing is judged, tests come from doctests and Hypothesis' ghostwriter"
            )
        flow = self._flow(request, notes)
        specs = [*request.steps, *_specs_of(flow)]
        policy = self._policy(request.input, model)
        target = request.input.target
        plan = Plan(
            target=str(target) if target else "a lionagi graph",
            model=model,
            steps=[*(self._step(spec, policy) for spec in specs), *_operations_of(flow)],
            notes=notes,
            approval=request.input.approval,
            flow=flow,
            priority=request.input.priority,
            fairness_key=_fairness_key(str(target) if target else request.workflow_id),
            looks_at_target=target is not None,
        )
        self._check_conditions(request, plan)
        check_limits(request.input.thresholds, self._catalogue)
        await self._store.open(request, plan)
        return plan

    async def add_steps(self, request: AddSteps) -> AddedSteps:
        """Check steps that became known only now and add them to the plan; again changes nothing.

        Raises:
            InvalidInput: An agent or an option is wrong; `field` names it.
        """
        entry = await self._store.load(request.run)
        policy = self._policy(entry.input, entry.plan.model)
        steps = [self._step(spec, policy) for spec in request.steps]
        await self._store.add_steps(request.run, steps)
        return AddedSteps(steps=steps)

    def _flow(self, request: OpenRun, notes: list[str]) -> list[FlowStep]:
        """The flow's steps, without those that are optional and whose agent the fleet doesn't have."""
        steps = request.flow_steps or []
        if request.flow is not None:
            if request.flow not in self._flows:
                raise InvalidInput("flow", f"no such flow; known: {', '.join(self._flows)}")
            steps = self._flows[request.flow]
        known = {agent.id for agent in self._catalogue}
        missing = {
            step.id
            for step in steps
            if step.optional and not {spec.spec.agent for spec in step.specs("")} <= known
        }
        notes += [f"{name} is left out: the fleet has no such agent" for name in sorted(missing)]
        return [without(step, missing) for step in steps if step.id not in missing]

    def _policy(self, asked: RunOptions, model: str) -> Policy:
        """How strategies are chosen.

        Raises:
            InvalidInput: The strategy asks a model, and the run has none; or its tool isn't there.
        """
        policy = asked.policy or (Policy.LEARNED if self._learns else Policy.OFF)
        strategy = policy.strategy
        if strategy and strategy.uses_model and model == NO_MODEL:
            raise InvalidInput("policy", f"{policy} asks a model, and the run has none")
        if strategy is Strategy.PYNGUIN and PYNGUIN.version() is None:
            raise InvalidInput("policy", f"pynguin isn't installed: {PYNGUIN.how_to_install}")
        return policy

    def _step(self, spec: StepSpec, policy: Policy) -> StepPlan:
        agent = self._catalogue.get(spec.spec.agent, field=agent_field(spec))
        options = check_options(agent, spec.spec.options, field=f"{spec.field}.options")
        loop = options if isinstance(options, LoopOptions) else LoopOptions(max_rounds=1)
        return StepPlan(
            step=spec.step,
            agent=agent.id,
            title=agent.title,
            on_failure=spec.spec.on_failure,
            looped=agent.loop is not None,
            policy=policy if agent.learner else Policy.OFF,
            max_rounds=loop.max_rounds,
            max_minutes=loop.max_minutes,
            options=spec.spec.options,
            timeout_minutes=spec.spec.timeout_minutes,
            budget_usd=spec.spec.budget_usd,
            approval=spec.spec.approval,
            needs_judgement=agent.judgement is not None and agent.judgement.required,
        )

    def _check_conditions(self, request: OpenRun, plan: Plan) -> None:
        agents = {step.step: self._catalogue.get(step.agent) for step in plan.steps if not step.operation}
        expanded = {spec.step for step in plan.flow if step.for_each for spec in step.specs("")}
        for check in [*request.conditions, *_conditions_of(plan.flow)]:
            check_condition(check, agents, expanded=expanded)

    async def store_items(self, request: StoreItems) -> ItemList:
        """Write an expansion's list down: as given, or the snapshot's files that a glob matches.

        Raises:
            InvalidInput: The glob matches nothing.
        """
        items = request.items
        if items is None:
            entry = await self._store.load(request.run)
            async with self._workspaces.open(
                entry.require_snapshot(), entry.require_environment()
            ) as workspace:
                names = await asyncio.to_thread(matching_files, workspace.project, request.files or "")
            if not names:
                raise InvalidInput("files", "matches no file of the target")
            items = [Item(id=name, paths=[name]) for name in names]
        return await self._store.store_items(request.run, request.source, items)

    async def page_of_items(self, request: PageOfItems) -> ItemPage:
        """Name some of a list's items."""
        names = await self._store.page_of_items(request.run, request.source, request.first, request.count)
        return ItemPage(names=names)

    async def record_approval(self, request: RecordApproval) -> None:
        """Keep what a person said in memory."""
        await self._store.remember_approval(request, request.approval)

    async def take_snapshot(self, run: RunRef) -> Snapshot:
        """Read the run's target, once: a second call gives what the first one found.

        Raises:
            TargetError: It can't be read or fetched.
            InvalidInput: It has no such `base`.
        """
        entry = await self._store.load(run.run)
        if entry.snapshot:
            return entry.snapshot
        if entry.input.target is None:
            raise TargetError("the run has no target")
        snapshot = await self._workspaces.snapshot(entry.input.target, base=entry.input.base)
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
            patches=await self._store.patches(request.run, request.steps),
            usage=await self._store.usage(request.run),
            artifacts=self._artifacts,
        )
        await self._store.close(request, closed)
        return closed


def agent_field(spec: StepSpec) -> str:
    """Where the agent's id stands in the input."""
    return spec.field if spec.field.endswith(".agent") else f"{spec.field}.agent"


def without(step: FlowStep, missing: Collection[str]) -> FlowStep:
    """A flow's step that no longer waits for steps that are missing."""
    return step.model_copy(update={"depends_on": [name for name in step.depends_on if name not in missing]})


def matching_files(project: Path, pattern: str) -> list[str]:
    """Files below a folder that a glob matches, sorted, relative, links left out.

    Raises:
        InvalidInput: The glob leads out of the folder.
    """
    if pattern.startswith("/") or ".." in pattern.split("/"):
        raise InvalidInput("files", "should be a glob below the target, such as src/**/*.py")
    found = (path for path in project.glob(pattern) if path.is_file() and not path.is_symlink())
    return sorted(str(path.relative_to(project)) for path in found)


def _specs_of(flow: Sequence[FlowStep]) -> list[StepSpec]:
    return [spec for number, step in enumerate(flow) for spec in step.specs(f"steps.{number}")]


def _operations_of(flow: Sequence[FlowStep]) -> list[StepPlan]:
    return [
        StepPlan(
            step=step.id,
            agent=GRAPH_AGENT,
            title=f"lionagi {step.operation.kind}",
            on_failure=step.on_failure,
            looped=False,
            timeout_minutes=step.timeout_minutes,
            budget_usd=step.budget_usd,
            approval=step.approval,
            operation=step.operation,
        )
        for step in flow
        if step.operation
    ]


def _conditions_of(flow: Sequence[FlowStep]) -> list[ConditionCheck]:
    """Each step's condition, with the steps that have ended when it is asked."""
    before = ancestors(flow)
    names = {step.id: [spec.step for spec in step.specs("")] or [step.id] for step in flow}
    return [
        ConditionCheck(
            field=f"steps.{number}.when",
            condition=step.when,
            steps=[name for earlier in before[step.id] for name in names[earlier]],
        )
        for number, step in enumerate(flow)
        if step.when
    ]


def _fairness_key(target: str) -> str:
    """At most 64 bytes, as Temporal wants it; runs of one target share it."""
    name = target.rpartition("@")[0] if target.startswith("git+") and "@" in target else target
    encoded = name.encode()
    return name if len(encoded) <= _FAIRNESS_BYTES else hashlib.sha256(encoded).hexdigest()

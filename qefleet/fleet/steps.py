"""The parts of an agent's step, as activities call them: measure, propose, try, conclude, judge, record."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from typing import Any

from pydantic import BaseModel

from qefleet.agents.agent import Agent, ConversationOptions, Judgement, Learner, Loop, StepContext
from qefleet.agents.catalogue import Catalogue
from qefleet.agents.citations import check_citations
from qefleet.agents.prompt import load_prompt
from qefleet.contracts.base import Digest, Model
from qefleet.contracts.changes import Changes
from qefleet.contracts.learning import Choice, Depth, Features, Gains, Policy, Rewarded, Tier
from qefleet.contracts.runs import AgentResult
from qefleet.contracts.steps import (
    Answer,
    ChooseDepth,
    ChooseStrategy,
    Conclude,
    Finding,
    Judge,
    Recorded,
    RecordStep,
    RewardStrategy,
    Round,
    StepRef,
    SumUp,
    SumUpResult,
    Trial,
    Verdict,
)
from qefleet.fleet.conversations import Conversations
from qefleet.fleet.items import sum_of_items
from qefleet.fleet.shown_memory import MemoryViews, note_of, with_memory
from qefleet.fleet.store import RunEntry, RunStore
from qefleet.graphs.dependencies import as_dependencies
from qefleet.graphs.operate import AGENT as GRAPH_AGENT
from qefleet.graphs.operate import GraphOperations
from qefleet.learning.features import model_kind
from qefleet.learning.store import Decider, LearningStore
from qefleet.llm.client import ModelClient, Question
from qefleet.llm.models import ModelChoice
from qefleet.llm.question import Message
from qefleet.llm.tokens import CallIdentity
from qefleet.memory.artifacts import Artifacts
from qefleet.memory.protocol import PROJECT
from qefleet.memory.shown import ShownMemory
from qefleet.tools.generation.pynguin import can_search
from qefleet.workspace.workspace import Workspaces

_LOCAL_ANSWER_TOKENS = 400
"""A small model that can't stop is cut off after half a minute, and asked again."""


class Steps:
    """Runs the parts of agents' steps; holds no state between them: all of it is in Postgres."""

    def __init__(
        self,
        *,
        catalogue: Catalogue,
        store: RunStore,
        workspaces: Workspaces,
        artifacts: Artifacts,
        client: ModelClient,
        models: ModelChoice,
        operations: GraphOperations,
        learning: LearningStore,
        conversations: Conversations,
        memory: MemoryViews,
        allowed_hosts: frozenset[str] = frozenset(),
    ) -> None:
        self._catalogue = catalogue
        self._store = store
        self._workspaces = workspaces
        self._artifacts = artifacts
        self._client = client
        self._models = models
        self._operations = operations
        self._learning = learning
        self._conversations = conversations
        self._memory = memory
        self._allowed_hosts = allowed_hosts

    async def measure(self, step: StepRef) -> Finding:
        """Run the agent's tools.

        What its model will be shown of memory, and what a looped agent is to work on first, is chosen before.
        """
        agent, entry, ctx = await self._context(step)
        notes = note_of(await self._show_memory(agent, entry, step))
        if agent.learner and entry.step(step.planned).policy is Policy.LEARNED:
            kind = model_kind(self._models.for_tier(agent.tier, entry.plan.model))
            issues = agent.learner.knows_issues(ctx)
            order = await self._learning.choose_order(_decider(step, agent, entry), kind, issues=issues)
            ctx = replace(ctx, order=order)
        finding = await agent.measure(ctx)
        return finding.model_copy(update={"notes": [*finding.notes, *notes]})

    async def choose_strategy(self, request: ChooseStrategy) -> Choice:
        """Choose how an item is worked on; the first choice stands, so that a retry goes on with it."""
        agent, entry, features, _ = await self._features(request)
        tiers = self._models.tiers(agent.tier, entry.plan.model)
        pynguin = can_search(entry.require_environment().python)
        who = _decider(request, agent, entry)
        return await self._learning.choose(who, features, tiers=tiers, pynguin=pynguin)

    async def choose_depth(self, request: ChooseDepth) -> Depth:
        """Choose whether an item gets another round; the first choice stands."""
        agent, entry, features, ctx = await self._features(request)
        goes_on = await self._learning.choose_depth(
            _decider(request, agent, entry),
            features,
            number=request.round,
            kept=request.kept,
            gains=await self._gains(agent, ctx, request),
        )
        return Depth(goes_on=goes_on)

    async def _features(self, request: ChooseStrategy) -> tuple[Agent, RunEntry, Features, StepContext]:
        agent, entry, ctx = await self._context(request)
        model = self._models.for_tier(agent.tier, entry.plan.model)
        features = await _learner_of(agent).features(ctx, request.item, request.state, model)
        return agent, entry, features, ctx

    async def _gains(self, agent: Agent, ctx: StepContext, request: ChooseStrategy | RewardStrategy) -> Gains:
        """What was measured of an item's rounds, and paid for them."""
        gains = await _learner_of(agent).gains(ctx, request.item, request.state)
        paid = await self._store.usage(request.run, f"{request.step}/{request.item}")
        return gains + Gains(
            input_tokens=paid.input_tokens, output_tokens=paid.output_tokens, cost_usd=paid.cost_usd or 0.0
        )

    async def reward_strategy(self, request: RewardStrategy) -> Rewarded:
        """Reward an item's choices by what was measured and paid, once."""
        agent, _, ctx = await self._context(request)
        gains = await self._gains(agent, ctx, request)
        lessons = await _learner_of(agent).lessons(ctx, request.item, request.state)
        return Rewarded(reward=await self._learning.reward(request, gains, lessons))

    async def propose(self, request: Round) -> Answer:
        """Ask a model for a proposal.

        Raises:
            RunError: The budget is spent, the provider refuses, or no reply can be used.
            ModelUnavailable: The provider or the gateway can't answer now.
        """
        agent, entry, ctx = await self._context(request)
        feedback = await self._text(request.feedback)
        if request.strategy is None:
            question = await _loop_of(agent).question(ctx, request.item, request.state, feedback)
        else:
            question = await _learner_of(agent).question_by(
                ctx,
                request.item,
                request.state,
                feedback,
                strategy=request.strategy,
                recalled=await self._learning.recalled(request.run, request.step, request.item),
            )
        call = f"{request.step}/{request.item}/{request.round}"
        return await self._ask(agent, entry, question, request, call, tier=request.tier)

    async def draft(self, request: Round) -> Answer:
        """Have tools propose something, without a model."""
        agent, _, ctx = await self._context(request)
        if request.strategy is None:
            proposal, note = await _loop_of(agent).draft(ctx, request.item, request.state), ""
        else:
            learner = _learner_of(agent)
            proposal, note = await learner.draft_by(ctx, request.item, request.state, request.strategy)
        return Answer(content=await self._keep(proposal) if proposal else None, note=note)

    async def try_proposal(self, request: Trial) -> Verdict:
        """Run a proposal through the agent's filters."""
        agent, _, ctx = await self._context(request)
        loop = _loop_of(agent)
        proposal = loop.response.model_validate_json(await self._artifacts.get(request.answer))
        return await loop.try_proposal(ctx, request.item, proposal, request.state)

    async def conclude(self, request: Conclude) -> Finding:
        """Measure what the loop has gained."""
        agent, _, ctx = await self._context(request)
        await self._learning.reward_order(request.run, request.step)
        notes = note_of(await self._memory.of(request.run, request.planned))
        return await _loop_of(agent).conclude(ctx, request.state, [*request.notes, *notes])

    async def judge(self, request: Judge) -> Answer:
        """Ask a model about a finding's evidence.

        Raises:
            RunError, ModelUnavailable: As `propose`.
        """
        agent, entry, ctx = await self._context(request)
        assert agent.judgement is not None, f"{agent.id} gives evidence only where it declares a judgement"
        prompt = load_prompt(agent.judgement.prompt, agent.judgement.package)
        evidence = await self._artifacts.get(request.evidence)
        question = Question(
            system=prompt.system,
            instruction=prompt.fill(),
            context=evidence.decode(),
            response=agent.judgement.response,
            check=partial(_check_answer, agent.judgement, ctx, evidence),
            past=await self._past(agent, request, ctx.options),
        )
        return await self._ask(agent, entry, question, request, f"{request.step}/judge")

    async def _show_memory(self, agent: Agent, entry: RunEntry, step: StepRef) -> ShownMemory | None:
        """What the agent's model is shown of memory in all of its calls; None where none is asked."""
        if not (agent.memory_reads and entry.plan.uses_model):
            return None
        reads = [f"aqe/{glob}" for glob in agent.memory_reads]
        name = entry.snapshot.name if entry.snapshot else PROJECT
        return await self._memory.pin(step.run, step.planned, project=name, reads=reads)

    async def _past(self, agent: Agent, step: StepRef, options: Model) -> list[Message]:
        """What the agent goes on from, where it remembers. An expansion's items have no conversation."""
        if not isinstance(options, ConversationOptions) or step.ordinal is not None:
            return []
        return await self._conversations.resume(
            step.run, step.step, agent=agent.id, window=options.remember_turns
        )

    async def operate(self, step: StepRef) -> Answer:
        """Do what a node of a lionagi graph does.

        Raises:
            GraphError: The node can't be run as it is written.
            RunError, ModelUnavailable: As `propose`.
        """
        entry = await self._store.load(step.run)
        earlier = await self._store.results(step.run, step.earlier)
        result = await self._operations.run(
            run_id=entry.run_id,
            workflow_id=entry.workflow_id,
            step=step.step,
            flow=entry.plan.flow,
            dependencies=as_dependencies(entry.plan.flow, earlier),
            model=entry.plan.model,
        )
        content = await self._artifacts.put(
            json.dumps({"result": result}).encode(), name="result.json", media_type="application/json"
        )
        usage = await self._store.usage(step.run, step.step)
        return Answer(content=content.digest, usage=usage)

    async def record(self, request: RecordStep) -> Recorded:
        """Write a step's result, memory and trajectory down in one transaction; again changes nothing."""
        judged: dict[str, Any] | None = None
        if request.judgement:
            judged = json.loads(await self._artifacts.get(request.judgement))
        usage = await self._store.usage(request.run, request.result.step)
        result = request.result.model_copy(update={"judged": judged, "usage": usage})
        snapshot = (await self._store.load(request.run)).snapshot
        is_item = "/" in result.step
        memory_key: str | None = None
        # Ten thousand items would write one key, one after the other; their sum is remembered. A node of a
        # graph has its conversation.
        if not is_item and result.agent != GRAPH_AGENT:
            memory_key = f"aqe/{self._catalogue.get(result.agent).memory_key}"
        await self._store.record(
            request.run,
            result,
            memory_key=memory_key,
            task={"files": snapshot.files, "size_bytes": snapshot.size_bytes} if snapshot else {},
            action="model" if usage.calls + usage.replayed_calls else "tools",
        )
        if judged is not None and not is_item and result.agent != GRAPH_AGENT:
            await self._remember(request.run, result, judged)
        return Recorded(usage=usage, judged=None if is_item else judged)

    async def _remember(self, run: str, result: AgentResult, judged: dict[str, Any]) -> None:
        """Add a turn to the agent's conversation, if it has one."""
        agent = self._catalogue.get(result.agent)
        if not issubclass(agent.options, ConversationOptions):
            return
        plan = (await self._store.load(run)).step(result.step)
        asked = {"options": plan.options, "measured": result.headline}
        await self._conversations.record(run, result.step, agent=agent.id, asked=asked, answered=judged)

    async def sum_up(self, request: SumUp) -> SumUpResult:
        """Make one result of all that was recorded of an expansion's items, and write it down."""
        entry = await self._store.load(request.run)
        agent = self._catalogue.get(entry.step(request.step).agent)
        rows = await self._store.item_results(request.run, request.step)
        summed = sum_of_items(request, rows, agent)
        listing = await self._artifacts.put(
            summed.listing, name="items.jsonl", media_type="application/jsonl"
        )
        recorded = await self.record(
            RecordStep(run=request.run, workflow_id=request.workflow_id, result=summed.result(listing))
        )
        return SumUpResult(result=summed.result(listing).model_copy(update={"usage": recorded.usage}))

    async def _context(self, step: StepRef) -> tuple[Agent, RunEntry, StepContext]:
        entry = await self._store.load(step.run)
        plan = entry.step(step.planned)
        agent = self._catalogue.get(plan.agent)
        earlier = await self._store.results(step.run, step.earlier)
        patches = await self._store.patches(step.run, step.earlier)
        context = StepContext(
            run=step.run,
            workflow_id=step.workflow_id,
            step=step.step,
            options=agent.options.model_validate(plan.options),
            thresholds=entry.input.thresholds,
            earlier=earlier,
            artifacts=self._artifacts,
            workspace=lambda: self._workspaces.open(
                entry.require_snapshot(), entry.require_environment(), patches
            ),
            unpatched=lambda: self._workspaces.open(entry.require_snapshot(), entry.require_environment()),
            catalogue=self._catalogue,
            keep_items=lambda items: self._store.store_items(step.run, step.step, items),
            item=await self._store.item(step),
            patches=patches,
            uses_model=entry.plan.uses_model,
            last=lambda: self._store.last_result(step.run, agent.id),
            history=lambda: self._store.history(step.run),
            allowed_hosts=self._allowed_hosts,
            **await self._diff_mode(entry),
        )
        return agent, entry, context

    async def _diff_mode(self, entry: RunEntry) -> dict[str, Any]:
        """What a step knows of the base, where the run has one."""
        snapshot = entry.snapshot
        if snapshot is None or snapshot.changes is None:
            return {}
        changes = Changes.model_validate_json(await self._artifacts.get(snapshot.changes))
        known: dict[str, Any] = {"changes": changes}
        if snapshot.churn:
            known["churn"] = json.loads(await self._artifacts.get(snapshot.churn))
        base = snapshot.base
        if base is None:
            return known
        environment = entry.require_environment()
        return {**known, "base_workspace": lambda: self._workspaces.open(base, environment)}

    async def _ask(
        self,
        agent: Agent,
        entry: RunEntry,
        question: Question[Any],
        step: StepRef,
        call: str,
        *,
        tier: Tier | None = None,
    ) -> Answer:
        question = with_memory(question, await self._memory.of(step.run, step.planned))
        tier = tier or agent.tier
        identity = CallIdentity(
            run_id=entry.run_id, workflow_id=entry.workflow_id, step=call, agent=agent.id, tier=tier
        )
        model = self._models.for_tier(tier, entry.plan.model)
        if model == "local":
            limit = min(question.max_output_tokens, _LOCAL_ANSWER_TOKENS)
            # It reads slowly, and not much: what it said before is left out.
            question = replace(question, max_output_tokens=limit, past=())
        reply = await self._client.ask(question, model=model, identity=identity)
        return Answer(
            content=await self._keep(reply.value), usage=await self._store.usage(str(entry.run_id), call)
        )

    async def _keep(self, value: BaseModel) -> Digest:
        content = value.model_dump_json().encode()
        return (await self._artifacts.put(content, name="answer.json", media_type="application/json")).digest

    async def _text(self, digest: Digest | None) -> str | None:
        return (await self._artifacts.get(digest)).decode() if digest else None


def _check_answer(judgement: Judgement, ctx: StepContext, evidence: bytes, answer: BaseModel) -> None:
    check_citations(answer, evidence)
    if judgement.check:
        judgement.check(ctx, answer)


def _decider(step: StepRef, agent: Agent, entry: RunEntry) -> Decider:
    of_item = isinstance(step, ChooseStrategy)
    return Decider(
        run=step.run,
        step=step.step,
        item=step.item if of_item else "",
        position=step.position if of_item else -1,
        agent=agent.id,
        policy=entry.step(step.planned).policy,
        seed=entry.input.policy_seed,
    )


def _learner_of(agent: Agent) -> Learner:
    assert agent.learner is not None, f"{agent.id} has nothing to choose"
    return agent.learner


def _loop_of(agent: Agent) -> Loop:
    assert agent.loop is not None, f"{agent.id} has no loop"
    return agent.loop

"""What an agent is made of: all that an author of one imports, in one place (see `docs/custom-agents.md`)."""

from qefleet.agents.agent import (
    Agent,
    ConversationOptions,
    Judgement,
    Loop,
    LoopOptions,
    Measure,
    NoOptions,
    StepContext,
)
from qefleet.agents.evidence import keep_all, keep_evidence
from qefleet.agents.parts import is_about
from qefleet.agents.prompt import Prompt, load_prompt
from qefleet.contracts.base import Digest, Model
from qefleet.contracts.items import Item, ItemList
from qefleet.contracts.measured import ArtifactRef, Measured, Measurement, ToolRun, Unmeasured
from qefleet.contracts.runs import AgentResult, Decision
from qefleet.contracts.steps import Finding, Verdict, WorkItem
from qefleet.llm.question import Question
from qefleet.workspace.sandbox import Limits
from qefleet.workspace.workspace import Workspace

__all__ = [
    "Agent",
    "AgentResult",
    "ArtifactRef",
    "ConversationOptions",
    "Decision",
    "Digest",
    "Finding",
    "Item",
    "ItemList",
    "Judgement",
    "Limits",
    "Loop",
    "LoopOptions",
    "Measure",
    "Measured",
    "Measurement",
    "Model",
    "NoOptions",
    "Prompt",
    "Question",
    "StepContext",
    "ToolRun",
    "Unmeasured",
    "Verdict",
    "WorkItem",
    "Workspace",
    "is_about",
    "keep_all",
    "keep_evidence",
    "load_prompt",
]

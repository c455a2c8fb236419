"""The workflow types that a worker of this version runs, and that histories are replayed against."""

from __future__ import annotations

from workflows.commanding import TaskWorkflow
from workflows.conditional import Conditional
from workflows.expansion import Expansion, ItemWorkflow
from workflows.fan_out_fan_in import FanOutFanIn
from workflows.flow import Flow
from workflows.hierarchical import Hierarchical
from workflows.parallel import Parallel
from workflows.parallel_expansion import ParallelExpansion
from workflows.pipeline import Pipeline
from workflows.release import Release
from workflows.unknown import Unknown

WORKFLOWS = (
    Pipeline,
    Parallel,
    FanOutFanIn,
    ParallelExpansion,
    Conditional,
    Hierarchical,
    Flow,
    Release,
    Expansion,
    ItemWorkflow,
    TaskWorkflow,
    Unknown,
)

REPLAYED = tuple(kind for kind in WORKFLOWS if kind is not Unknown)
"""Without the fallback, which would answer for a type that this version doesn't have any more."""

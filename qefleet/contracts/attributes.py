"""The search attributes of a run, as `temporal workflow list --query` sees them."""

from __future__ import annotations

from temporalio.common import SearchAttributeKey

DECISION = SearchAttributeKey.for_keyword("QeDecision")
TARGET = SearchAttributeKey.for_keyword("QeTarget")
PHASE = SearchAttributeKey.for_keyword("QePhase")
COST_USD = SearchAttributeKey.for_float("QeCostUsd")

ALL = (DECISION, TARGET, PHASE, COST_USD)

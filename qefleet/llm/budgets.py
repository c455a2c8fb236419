"""Budgets: what a run may spend, one agent in it, and all runs of a project in a day or a month."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

Period = Literal["day", "month"]
Scope = Literal["run", "agent", "project"]


@dataclass(frozen=True)
class ProjectBudget:
    """What all runs of one project may spend together; each project has as much."""

    usd: Decimal
    period: Period
    """A calendar day or month, in UTC by the database's clock."""


@dataclass(frozen=True)
class Budget:
    """One limit that holds for a call."""

    scope: Scope
    name: str
    """The step, or the project; nothing for the run."""
    usd: Decimal
    period: Period | None = None


@dataclass(frozen=True)
class OverBudget:
    """A budget is spent."""

    budget: Budget
    spent: Decimal

    @property
    def message(self) -> str:
        """Which budget, how much of it, and how to raise it."""
        amounts = f"{_plain(self.spent)} of {_plain(self.budget.usd)} USD"
        match self.budget.scope:
            case "run":
                return f"the run has spent {amounts}: start another run with a larger budget_usd"
            case "agent":
                return (
                    f"{self.budget.name} has spent {amounts}, its agent's own budget: "
                    "give the agent a larger budget_usd in another run"
                )
            case "project":
                period = self.budget.period
                return (
                    f"project {self.budget.name} has spent {amounts} of this {period}: raise "
                    f"QE_PROJECT_BUDGET_USD where the gateway runs, or wait for the next {period} (UTC)"
                )


def _plain(usd: Decimal) -> str:
    return f"{usd.normalize():f}"

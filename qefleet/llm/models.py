"""Which model is asked: the run's own choice, else the tier's, else the default."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import get_args

from qefleet.contracts.learning import Tier
from qefleet.errors import InvalidInput

NO_MODEL = "none"
_TIERS: tuple[Tier, ...] = get_args(Tier)
_NAMED = re.compile(r"^(?P<provider>[a-z][a-z0-9_]*)/(?P<name>[\x21-\x7e]+)$")


@dataclass(frozen=True)
class ModelChoice:
    """The worker's models.

    Args:
        default: `provider/name`, `local` or `none`.
        by_tier: Overrides for an agent's tier: `simple`, `moderate`, `complex`, `critical`.
    """

    default: str
    providers: frozenset[str]
    """Those that the gateway can reach."""
    by_tier: Mapping[Tier, str] = field(default_factory=dict[Tier, str])

    def resolve(self, wanted: str | None) -> str:
        """The run's model, checked.

        Raises:
            InvalidInput: Neither `local`, nor `none`, nor a provider and name that we know how to reach.
        """
        model = wanted or self.default
        if model in (NO_MODEL, "local"):
            return model
        found = _NAMED.match(model)
        if not found or found["provider"] not in self.providers:
            known = ", ".join(sorted(self.providers))
            raise InvalidInput(
                "model", f"must be none, local, or provider/name with one of the providers {known}"
            )
        return model

    def for_tier(self, tier: Tier, run_model: str) -> str:
        """The model for an agent of this tier in a run that was opened with `run_model`."""
        if run_model != self.default:
            return run_model
        return self.by_tier.get(tier, run_model)

    def tiers(self, own: Tier, run_model: str) -> tuple[Tier, ...]:
        """Tiers to choose from for an agent, its own first: one for each model that there is.

        Args:
            own: The agent's.
            run_model: Of the run; where it isn't the worker's default, it is the only one.
        """
        found: dict[str, Tier] = {}
        for tier in (own, *_TIERS):
            found.setdefault(self.for_tier(tier, run_model), tier)
        found.pop(NO_MODEL, None)
        return tuple(found.values())

"""Which model is asked, and between which the fleet may choose."""

from __future__ import annotations

import pytest

from qefleet.contracts.learning import Tier
from qefleet.llm.models import ModelChoice

_PROVIDERS = frozenset({"openai"})


def _models(default: str = "openai/plain", **by_tier: str) -> ModelChoice:
    tiers: dict[Tier, str] = {"simple": "", "moderate": "", "complex": "", "critical": ""}
    return ModelChoice(
        default=default,
        providers=_PROVIDERS,
        by_tier={tier: by_tier[tier] for tier in tiers if tier in by_tier},
    )


@pytest.mark.parametrize(
    ("models", "run_model", "expected"),
    [
        pytest.param(_models(), "openai/plain", ["moderate"], id="one model"),
        pytest.param(_models(complex="openai/dear"), "openai/plain", ["moderate", "complex"], id="own first"),
        pytest.param(
            _models(moderate="openai/own", complex="openai/own"),
            "openai/plain",
            ["moderate", "simple"],
            id="one tier a model",
        ),
        pytest.param(_models(complex="openai/dear"), "openai/other", ["moderate"], id="named by the run"),
        pytest.param(_models(critical="none"), "openai/plain", ["moderate"], id="none is no model"),
    ],
)
def test_there_is_a_tier_to_choose_for_each_model(
    models: ModelChoice, run_model: str, expected: list[Tier]
) -> None:
    """The agent's own first, and no model twice."""
    assert list(models.tiers("moderate", run_model)) == expected

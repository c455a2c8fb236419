"""What tokens cost."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from qefleet.errors import SettingsError
from qefleet.llm.prices import load_prices


@pytest.mark.parametrize(
    ("provider", "model", "usd"),
    [
        ("openai", "gpt-4.1-mini", "2"),
        ("openai", "gpt-4.1-mini-2025-04-14", "2"),
        ("anthropic", "claude-haiku-4-5-20251001", "6"),
        ("anthropic", "claude-3-5-haiku-latest", "4.8"),
        ("openrouter", "openai/gpt-4.1-mini", "2"),
        ("local", "whatever", "0"),
        ("ollama", "whatever", "0"),
    ],
)
def test_a_million_of_each(provider: str, model: str, usd: str) -> None:
    """Dated names, OpenRouter's names and what runs on this machine find their price."""
    price = load_prices().of(provider, model)

    assert price is not None
    assert price.cost(1_000_000, 1_000_000) == Decimal(usd)


def test_what_nobody_priced_has_no_price() -> None:
    """An unknown model costs an unknown sum, not nothing."""
    assert load_prices().of("openai", "gpt-99") is None


def test_own_prices_go_first(tmp_path: Path) -> None:
    """The user's file adds models and overrides ours."""
    own = tmp_path / "p.toml"
    own.write_text(
        '[openai]\n"gpt-4o" = { input = 1, output = 1 }\n[mine]\nx = { input = 2.5, output = 0 }\n'
    )
    prices = load_prices(own)

    found = [prices.of(*name) for name in (("openai", "gpt-4o"), ("mine", "x"), ("openai", "gpt-4.1"))]
    assert [price and price.input for price in found] == [Decimal(1), Decimal("2.5"), Decimal("2.00")]


@pytest.mark.parametrize("text", ["[", "[openai]\nx = 3\n", "[openai]\nx = { input = -1, output = 1 }\n"])
def test_a_bad_file_names_the_setting(tmp_path: Path, text: str) -> None:
    """A file of another shape is refused with the variable's name and an example."""
    own = tmp_path / "p.toml"
    own.write_text(text)

    with pytest.raises(SettingsError, match="QE_PRICES"):
        load_prices(own)

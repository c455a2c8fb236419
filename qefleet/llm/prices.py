"""What a model's tokens cost: a dated table that ships with the fleet, and the user's own over it.

Costs are kept as `Decimal`: a run's budget is money, and thousands of small sums are to add up.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from importlib.resources import files
from pathlib import Path
from typing import Annotated

from pydantic import Field, TypeAdapter, ValidationError

from qefleet.contracts.base import Model
from qefleet.errors import SettingsError

FREE_PROVIDERS = frozenset({"local", "ollama"})

_DATED = re.compile(r"-(\d{4}-\d{2}-\d{2}|\d{8}|latest)$")
_MILLION = 1_000_000


class Price(Model):
    """USD per million tokens."""

    input: Annotated[Decimal, Field(ge=0)]
    output: Annotated[Decimal, Field(ge=0)]

    def cost(self, input_tokens: int, output_tokens: int) -> Decimal:
        """USD for so many tokens."""
        return (self.input * input_tokens + self.output * output_tokens) / _MILLION


_FREE = Price(input=Decimal(0), output=Decimal(0))
_TABLE = TypeAdapter(dict[str, dict[str, Price]])


@dataclass(frozen=True)
class Prices:
    """Prices by provider and model."""

    date: date
    """When the shipped table was right."""
    table: Mapping[tuple[str, str], Price]

    def of(self, provider: str, model: str) -> Price | None:
        """The model's price; None where nobody told it.

        A dated name (`gpt-4.1-2025-04-14`) has its undated name's price. Through OpenRouter a model costs
        what its maker asks.
        """
        if provider in FREE_PROVIDERS:
            return _FREE
        maker, slash, name = model.partition("/")
        places = [(provider, model)] + ([(maker, name)] if provider == "openrouter" and slash else [])
        for at, called in places:
            for candidate in (called, _DATED.sub("", called)):
                if price := self.table.get((at, candidate)):
                    return price
        return None


def load_prices(override: Path | None = None) -> Prices:
    """The shipped table, with the user's entries over it.

    Raises:
        SettingsError: The user's file is missing or has another shape.
    """
    shipped = tomllib.loads(
        files("qefleet.llm").joinpath("prices.toml").read_text("utf-8"), parse_float=Decimal
    )
    day = shipped.pop("date")
    table = _flat(shipped)
    if override is not None:
        try:
            own = tomllib.loads(override.read_text("utf-8"), parse_float=Decimal)
            own.pop("date", None)
            table |= _flat(own)
        except (OSError, tomllib.TOMLDecodeError, ValidationError) as error:
            raise SettingsError(
                f"QE_PRICES: {override} can't be used ({type(error).__name__}); it needs lines such as "
                '"model" = { input = 1.0, output = 2.0 } under [provider]'
            ) from error
    return Prices(date=day, table=table)


def _flat(raw: dict[str, object]) -> dict[tuple[str, str], Price]:
    nested = _TABLE.validate_python(raw)
    return {
        (provider, model): price for provider, models in nested.items() for model, price in models.items()
    }

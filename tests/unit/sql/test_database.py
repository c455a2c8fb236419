"""JSON for Postgres, and insisting while it is away."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import asyncpg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qefleet.contracts.runs import Usage
from qefleet.errors import StoreUnavailable
from qefleet.sql.database import encode_json, retrying

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.characters()),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters()), inner),
)


@given(json_values)
def test_any_json_value_is_encoded_so_that_postgres_takes_it(value: Any) -> None:
    """The text has no NUL and no lone surrogate, whatever the strings and keys hold."""
    text = encode_json(value)

    text.encode()
    assert "\\u0000" not in text.replace("\\\\", "")


def test_harmless_values_are_kept() -> None:
    """Text that Postgres takes arrives unchanged, also where it looks like an escape."""
    value = {"a": ["\\u0000", "é\n😀", 1.5, None]}

    assert json.loads(encode_json(value)) == value


def test_models_and_decimals_are_values() -> None:
    """What Pydantic can write needs no conversion by the caller."""
    assert json.loads(encode_json({"u": Usage(calls=1), "d": Decimal("1.5")})) == {
        "u": Usage(calls=1).model_dump(),
        "d": "1.5",
    }


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_are_none_are_refused(value: float) -> None:
    """NaN and infinity have no JSON."""
    with pytest.raises(ValueError, match="JSON compliant"):
        encode_json([value])


async def test_trouble_that_passes_is_waited_for() -> None:
    """Work that fails because Postgres is away, in each of asyncpg's ways to say so, is done later."""
    failures = [
        ConnectionRefusedError(),
        asyncpg.InternalClientError("cannot switch to state 3"),
        asyncpg.InterfaceError("cannot call Transaction.__aexit__(): the underlying connection is closed"),
    ]

    async def work() -> str:
        if failures:
            raise failures.pop()
        return "done"

    assert await retrying(work) == "done"


@pytest.mark.parametrize(
    "error",
    [
        asyncpg.InternalClientError("a bug"),
        asyncpg.InterfaceError("pool is closed"),
        asyncpg.UndefinedTableError("x"),
        KeyError(),
    ],
)
async def test_other_trouble_is_told_at_once(error: Exception) -> None:
    """What another try can't mend is raised as it is."""

    async def work() -> None:
        raise error

    with pytest.raises(type(error)):
        await retrying(work)


async def test_insisting_ends() -> None:
    """After the time is over the typed error comes, caused by the last failure."""

    async def work() -> None:
        raise ConnectionRefusedError

    with pytest.raises(StoreUnavailable) as caught:
        await retrying(work, total_s=0.1)
    assert isinstance(caught.value.__cause__, ConnectionRefusedError)

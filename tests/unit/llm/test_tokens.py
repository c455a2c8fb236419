"""Signed identities."""

from __future__ import annotations

from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qefleet.llm.tokens import CallIdentity, TokenRefused, mint, verify

SECRET = "a secret"


def _identity() -> CallIdentity:
    return CallIdentity(run_id=uuid4(), workflow_id="wf", step="a#0/b:c/1", agent="a", ordinal=3)


def test_what_was_minted_is_read_back() -> None:
    """A token gives the identity that it was minted for."""
    identity = _identity()

    assert verify(mint(identity, SECRET), SECRET) == identity


def test_another_secret_is_refused() -> None:
    """A token of somebody who doesn't know the secret says so."""
    with pytest.raises(TokenRefused, match="not a token of this gateway"):
        verify(mint(_identity(), "guessed"), SECRET)


def test_time_runs_out() -> None:
    """An expired token is refused, and the message says why."""
    with pytest.raises(TokenRefused, match="expired"):
        verify(mint(_identity(), SECRET, ttl_s=-1), SECRET)


@given(st.text())
def test_any_text_is_refused_cleanly(text: str) -> None:
    """Whatever somebody sends, the only error is a refusal."""
    with pytest.raises(TokenRefused):
        verify(text, SECRET)


@given(st.integers(min_value=0), st.characters(codec="ascii"))
def test_one_changed_character_is_refused(position: int, replacement: str) -> None:
    """Changing any character of a token makes it void."""
    token = mint(_identity(), SECRET)
    at = position % len(token)
    altered = token[:at] + replacement + token[at + 1 :]
    if altered == token:
        return

    with pytest.raises(TokenRefused):
        verify(altered, SECRET)

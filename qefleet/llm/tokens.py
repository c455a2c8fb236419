"""Who a model call belongs to, signed: the capability that a caller shows to the gateway.

It travels where a provider's key would (the bearer token or `x-api-key`), so that stock clients carry it
without knowing. The worker mints, the gateway verifies; nobody else on the machine can spend the user's
money.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import time
from typing import Annotated
from uuid import UUID

from pydantic import Field, ValidationError

from qefleet.contracts.base import Model
from qefleet.contracts.learning import Tier

TOKEN_PREFIX = "qe1"  # noqa: S105 - the format's version, not a secret
TOKEN_TTL_S = 12 * 3600

_Text = Annotated[str, Field(min_length=1, max_length=1024, pattern=r"^[^\x00]*$")]


class CallIdentity(Model):
    """One logical model call: the same identity and request always mean the same answer."""

    run_id: UUID
    """The workflow's *first* execution run id: it survives `temporal workflow reset`."""
    workflow_id: _Text
    step: _Text
    """Unique within the run, such as `test-generator#0/boltons.iterutils:redundant/1`."""
    agent: _Text
    ordinal: Annotated[int, Field(ge=0)] = 0
    """Tells apart calls of one step that are meant to be made again."""
    tier: Tier | None = None
    """How demanding the question is, for the ledger: it doesn't make another call of it."""


class TokenRefused(ValueError):
    """The token wasn't minted with this secret, or its time is over. The message is safe to show."""


class _Claims(Model):
    identity: CallIdentity
    expires_at: int
    """Seconds since the epoch."""


def mint(identity: CallIdentity, secret: str, *, ttl_s: float = TOKEN_TTL_S) -> str:
    """Sign an identity.

    Args:
        identity: The call that the token permits.
        secret: What worker and gateway share (`QE_GATEWAY_SECRET`).
        ttl_s: Seconds until the gateway refuses it.
    """
    claims = _Claims(identity=identity, expires_at=int(time.time() + ttl_s))
    body = _encode(claims.model_dump_json(exclude_none=True).encode())
    return f"{TOKEN_PREFIX}.{body}.{_encode(_signature(body, secret))}"


def verify(token: str, secret: str) -> CallIdentity:
    """Read a token back.

    Raises:
        TokenRefused: It is malformed, forged or expired.
    """
    prefix, _, rest = token.partition(".")
    body, _, signature = rest.partition(".")
    try:
        shown = _decode(signature)
    except (binascii.Error, ValueError) as error:
        raise TokenRefused("not a token of this gateway") from error
    if prefix != TOKEN_PREFIX or not hmac.compare_digest(shown, _signature(body, secret)):
        raise TokenRefused("not a token of this gateway")
    try:
        claims = _Claims.model_validate_json(_decode(body))
    except (binascii.Error, ValidationError) as error:
        raise TokenRefused("a token of another version of the fleet") from error
    if claims.expires_at <= time.time():
        raise TokenRefused("the token has expired; mint one for each attempt")
    return claims.identity


def _signature(body: str, secret: str) -> bytes:
    return hmac.digest(secret.encode(), f"{TOKEN_PREFIX}.{body}".encode(), hashlib.sha256)


def _encode(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _decode(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)

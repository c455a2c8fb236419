"""What the gateway tells its clients: an answer, a provider's own words, or a problem in a stated shape.

A problem is JSON that clients of either dialect understand as an error:
`{"type": "error", "error": {"type": "budget_exceeded", "message": "…"}}`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from decimal import Decimal
from http import HTTPStatus
from typing import Literal

ProblemType = Literal[
    "bad_request",
    "token_refused",
    "missing_key",
    "budget_exceeded",
    "unknown_provider",
    "price_unknown",
    "outcome_unknown",
    "too_large",
    "upstream_refused",
    "upstream_unreachable",
    "upstream_broken",
    "upstream_unusable",
    "upstream_timeout",
    "store_unavailable",
]

_STATUS: dict[ProblemType, HTTPStatus] = {
    "bad_request": HTTPStatus.BAD_REQUEST,
    "token_refused": HTTPStatus.UNAUTHORIZED,
    "missing_key": HTTPStatus.UNAUTHORIZED,
    "budget_exceeded": HTTPStatus.PAYMENT_REQUIRED,
    "unknown_provider": HTTPStatus.NOT_FOUND,
    "price_unknown": HTTPStatus.BAD_REQUEST,
    "outcome_unknown": HTTPStatus.CONFLICT,
    "too_large": HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    "upstream_refused": HTTPStatus.BAD_GATEWAY,
    "upstream_unreachable": HTTPStatus.BAD_GATEWAY,
    "upstream_broken": HTTPStatus.BAD_GATEWAY,
    "upstream_unusable": HTTPStatus.BAD_GATEWAY,
    "upstream_timeout": HTTPStatus.GATEWAY_TIMEOUT,
    "store_unavailable": HTTPStatus.SERVICE_UNAVAILABLE,
}


@dataclass(frozen=True)
class Reply:
    """One HTTP response to a client."""

    status: int
    headers: dict[str, str]
    body: bytes
    replayed: bool = False
    """Served from the ledger: this request bought nothing."""
    cost_usd: Decimal | None = None


@dataclass(frozen=True)
class Problem:
    """Why there is no answer."""

    type: ProblemType
    message: str
    """For people; without secrets and without prompts."""
    retry_after_s: int | None = None
    unpaid: bool = False
    """Surely nothing was bought, so that sending again is safe."""
    upstream_status: int | None = None
    upstream_body: bytes | None = None
    """What the provider said, when it said something."""
    upstream_headers: dict[str, str] = field(default_factory=dict[str, str])

    def reply(self) -> Reply:
        """As a response. A provider's refusal goes on as it came, its Retry-After included."""
        # A redirect is none of the client's business: the gateway's address for the provider is wrong.
        if self.type == "upstream_refused" and (self.upstream_status or 0) >= HTTPStatus.BAD_REQUEST:
            assert self.upstream_status is not None, "compared above"
            return Reply(self.upstream_status, self.upstream_headers, self.upstream_body or b"")
        headers = {"content-type": "application/json"}
        if self.retry_after_s is not None:
            headers["retry-after"] = str(self.retry_after_s)
        body = {"type": "error", "error": {"type": self.type, "message": self.message}}
        return Reply(_STATUS[self.type], headers, json.dumps(body).encode())


class RefusedRequest(Exception):
    """Ends the handling of a request with a problem."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.message)
        self.problem = problem

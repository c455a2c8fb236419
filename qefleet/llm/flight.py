"""One model call on its way: sent once, watched by any number of clients, finished whoever stays to see it.

A flight is a task of its own: the client that caused it may leave, the answer is kept all the same, and
whoever asks the same again meanwhile watches the same flight.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from decimal import Decimal
from typing import NamedTuple
from uuid import UUID, uuid4

import httpx

from qefleet.errors import StoreUnavailable
from qefleet.llm.budgets import OverBudget
from qefleet.llm.ledger import (
    Answer,
    Call,
    Claimed,
    Ledger,
    Metered,
    Unknown,
    Unpriced,
    Wait,
)
from qefleet.llm.metering import Tokens, output_bound, read_answer, read_vectors
from qefleet.llm.prices import Price, Prices
from qefleet.llm.replies import Problem, Reply
from qefleet.llm.upstream import EMBEDDINGS, Upstream

POLL_MIN_S = 0.1
POLL_MAX_S = 1.0
ANSWER_MAX_BYTES = 64 * 2**20

_KEPT_HEADERS = ("content-type", "retry-after", "retry-after-ms", "x-request-id", "request-id")
_log = logging.getLogger(__name__)


class _Bought(NamedTuple):
    answer: Answer
    metered: Metered


class Flight:
    """Gets one call's answer, from the ledger or from the provider.

    Args:
        call: The call.
        upstream: Whom to ask.
        headers: What the client said beside its credentials that the provider is to hear.
        ledger: Where answers are kept.
        client: Sends it; its read time-out is what `upstream_timeout` reports.
        prices: What tokens cost.
    """

    def __init__(
        self,
        call: Call,
        upstream: Upstream,
        headers: dict[str, str],
        *,
        ledger: Ledger,
        client: httpx.AsyncClient,
        prices: Prices,
    ) -> None:
        self.call = call
        self.streaming: asyncio.Future[dict[str, str]] = asyncio.get_running_loop().create_future()
        """The headers of a live stream, once there is one."""
        self.key = call.key
        self._upstream = upstream
        self._headers = headers
        self._ledger = ledger
        self._client = client
        self._price: Price | None = prices.of(call.provider, call.model)
        self._chunks: list[bytes] = []
        self._grown = asyncio.Event()
        self.task: asyncio.Task[Reply] = asyncio.create_task(self._fly(), name=f"call {self.key[:12]}")
        self.task.add_done_callback(lambda _: self._grown.set())

    async def reply(self) -> Reply:
        """The final word. Cancelling this leaves the flight alone."""
        return await asyncio.shield(self.task)

    async def follow(self) -> AsyncGenerator[bytes]:
        """The pieces of a live stream, from its beginning.

        The last one waits until the whole is in the ledger: a client that has seen the end may rely on it. A
        stream that breaks ends with an error event.
        """
        sent = 0
        while not self.task.done():
            # Waits on the event of now: growth between the check and the wait sets it.
            grown = self._grown
            while sent < len(self._chunks) - 1:
                yield self._chunks[sent]
                sent += 1
            await grown.wait()
        reply = await self.reply()
        if reply.status < 300:  # noqa: PLR2004 - 2xx
            for chunk in self._chunks[sent:]:
                yield chunk
        else:
            yield b"event: error\ndata: " + reply.body.replace(b"\n", b" ") + b"\n\n"

    async def _fly(self) -> Reply:
        try:
            if stored := await self._ledger.replay(self.key):
                return _replayed(stored)
            attempt = uuid4()
            outcome = await self._claim(attempt)
        except StoreUnavailable as error:
            return Problem("store_unavailable", str(error), retry_after_s=5).reply()
        match outcome:
            case Answer():
                return _replayed(outcome)
            case Claimed():
                return await self._send(attempt)
            case _:
                return self._refusal(outcome).reply()

    def _refusal(self, outcome: OverBudget | Unpriced | Unknown) -> Problem:
        match outcome:
            case OverBudget():
                return Problem("budget_exceeded", outcome.message)
            case Unpriced():
                name = f"{self.call.provider}/{self.call.model}"
                message = f"a budget needs a price, and {name} has none: add it to the file in QE_PRICES"
                return Problem("price_unknown", message)
            case Unknown():
                message = "an earlier attempt ended unseen, and QE_ON_UNKNOWN=fail forbids a second one"
                return Problem("outcome_unknown", message)

    async def _claim(self, attempt: UUID) -> Answer | Claimed | Unknown | OverBudget | Unpriced:
        """Claim the call; wait while another gateway has it, or the budgets allow none beside others."""
        pause = POLL_MIN_S
        while True:
            outcome = await self._ledger.claim(
                self.call, attempt, bound=self._bound(), has_price=self._price is not None
            )
            if not isinstance(outcome, Wait):
                return outcome
            state = "leased"
            while state == "leased":
                await asyncio.sleep(pause)
                pause = min(POLL_MAX_S, pause * 1.5)
                state = await self._ledger.state(self.key)

    def _bound(self) -> Decimal | None:
        request = dict(self.call.request)
        output = 0 if self.call.path == EMBEDDINGS else output_bound(request, self.call.body)
        if self._price is None or output is None:
            return None
        # A token is at least a byte.
        return self._price.cost(len(self.call.body), output)

    async def _send(self, attempt: UUID) -> Reply:
        """Ask the provider once, and enter what comes of it."""
        begun = time.monotonic()
        try:
            async with self._renewing(attempt):
                outcome = await self._ask()
        except asyncio.CancelledError:
            with suppress(StoreUnavailable):  # then the lease runs out by itself
                message = "the gateway was stopped in mid-call"
                await self._ledger.fail(self.key, attempt, outcome="lost", error=message)
            raise
        verdict = outcome.type if isinstance(outcome, Problem) else "answered"
        _log.info(
            "call %s %s/%s: %s after %.1f s",
            self.key[:12], self.call.provider, self.call.model, verdict, time.monotonic() - begun,
        )  # fmt: skip
        try:
            if isinstance(outcome, _Bought):
                kept = await self._ledger.answer(self.key, attempt, outcome.answer, outcome.metered)
                return Reply(kept.status, kept.headers, kept.body, cost_usd=kept.cost_usd)
            await self._ledger.fail(
                self.key,
                attempt,
                outcome="failed" if outcome.unpaid else "lost",
                error=outcome.message[:500],
                status=outcome.upstream_status,
                response=outcome.upstream_body,
            )
        except StoreUnavailable as error:
            return Problem("store_unavailable", str(error), retry_after_s=5).reply()
        return outcome.reply()

    async def _ask(self) -> _Bought | Problem:
        request = self._client.build_request(
            "POST",
            self._upstream.url(self.call.path),
            content=_metered_body(self.call, self._upstream),
            headers=self._headers | self._upstream.credentials(),
        )
        where = request.url.host
        try:
            response = await self._client.send(request, stream=True)
            try:
                return await self._read(response)
            finally:
                await response.aclose()
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.UnsupportedProtocol) as error:
            return Problem(
                "upstream_unreachable", f"{where} can't be reached ({type(error).__name__})", unpaid=True
            )
        except httpx.TimeoutException as error:
            return Problem("upstream_timeout", f"{where} fell silent ({type(error).__name__})")
        except httpx.HTTPError as error:
            return Problem("upstream_broken", f"the connection to {where} broke ({type(error).__name__})")

    async def _read(self, response: httpx.Response) -> _Bought | Problem:
        headers = {name: response.headers[name] for name in _KEPT_HEADERS if name in response.headers}
        stream = headers.get("content-type", "").startswith("text/event-stream")
        size = 0
        if response.is_success and stream:
            self.streaming.set_result(headers)
        async for chunk in response.aiter_bytes():
            self._chunks.append(chunk)
            size += len(chunk)
            grown, self._grown = self._grown, asyncio.Event()
            grown.set()
            if size > ANSWER_MAX_BYTES:
                return Problem("upstream_unusable", f"the answer is larger than {ANSWER_MAX_BYTES} bytes")
        body = self._upstream.redact(b"".join(self._chunks))
        if not response.is_success:
            return Problem(
                "upstream_refused",
                f"{response.request.url.host} answered {response.status_code}",
                unpaid=True,
                upstream_status=response.status_code,
                upstream_body=body,
                upstream_headers=headers,
            )
        if self.call.path == EMBEDDINGS:
            reading = read_vectors(body)
        else:
            reading = read_answer(self._upstream.dialect, body, stream=stream)
        if not reading.complete:
            return Problem(
                "upstream_unusable",
                f"{response.request.url.host} sent a {response.status_code} that holds no answer",
                upstream_status=response.status_code,
                upstream_body=body,
            )
        metered = self._meter(reading.tokens, len(body))
        return _Bought(Answer(response.status_code, headers, body, metered.cost_usd), metered)

    def _meter(self, tokens: Tokens | None, size: int) -> Metered:
        if self._price is None:
            return Metered(tokens=tokens, cost_usd=None, priced=False)
        counted = tokens or Tokens(len(self.call.body), 0 if self.call.path == EMBEDDINGS else size)
        return Metered(tokens=tokens, cost_usd=self._price.cost(*counted), priced=tokens is not None)

    @asynccontextmanager
    async def _renewing(self, attempt: UUID) -> AsyncGenerator[None]:
        async def renew() -> None:
            while True:
                await asyncio.sleep(self._ledger.lease_s / 3)
                try:
                    await self._ledger.renew(self.key, attempt)
                except StoreUnavailable as error:
                    # The call goes on: its answer is worth more than its lease.
                    _log.warning("call %s: the lease can't be renewed: %s", self.key[:12], error)

        renewing = asyncio.create_task(renew())
        try:
            yield
        finally:
            renewing.cancel()


def _metered_body(call: Call, upstream: Upstream) -> bytes:
    """What is sent: the client's bytes; OpenAI's streams are asked for their tokens, or they don't tell."""
    if upstream.dialect != "openai" or not call.request.get("stream") or "stream_options" in call.request:
        return call.body
    return json.dumps({**call.request, "stream_options": {"include_usage": True}}).encode()


def _replayed(answer: Answer) -> Reply:
    return Reply(answer.status, answer.headers, answer.body, replayed=True, cost_usd=answer.cost_usd)

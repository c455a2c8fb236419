"""The gateway: a small OpenAI- and Anthropic-compatible server between lionagi and the providers.

It alone holds the providers' keys. A client posts to `/{provider}/v1/chat/completions`,
`/{provider}/v1/embeddings` or `/anthropic/v1/messages` as it would to the provider, with a signed identity
(`tokens.py`) where the key goes. The same identity with the same request is one call: bought once, answered
from the ledger afterwards, whoever crashed in between.

A response says how it came about: `x-qe-call` (the ledger's key), `x-qe-replayed` (`true`: nothing was
bought) and `x-qe-cost-usd` (where it is known). Problems have the shape that `replies.py` tells.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager

import httpx
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from qefleet.errors import StoreUnavailable
from qefleet.llm.flight import Flight
from qefleet.llm.ledger import Call, Ledger
from qefleet.llm.metering import parse_object
from qefleet.llm.prices import Prices
from qefleet.llm.replies import Problem, RefusedRequest, Reply
from qefleet.llm.tokens import CallIdentity, TokenRefused, verify
from qefleet.llm.upstream import OPERATIONS, Upstream

REQUEST_MAX_BYTES = 32 * 2**20
UPSTREAM_TIMEOUT_S = 600.0
"""Of silence; a stream may last longer."""
CONNECT_TIMEOUT_S = 10.0
STOP_GRACE_S = 8.0
"""What calls in flight get to finish when the gateway is asked to stop."""

_PASSED_ON = ("accept", "anthropic-beta", "anthropic-version", "content-type", "user-agent")
_log = logging.getLogger(__name__)


class Gateway:
    """Answers model calls.

    Args:
        ledger: Where calls and answers are kept.
        upstreams: The providers, by the name that stands first in the path.
        prices: What tokens cost.
        secret: What callers' tokens are signed with.
        upstream_timeout_s: Seconds that a provider may be silent.
    """

    def __init__(
        self,
        ledger: Ledger,
        *,
        upstreams: Mapping[str, Upstream],
        prices: Prices,
        secret: str,
        upstream_timeout_s: float = UPSTREAM_TIMEOUT_S,
    ) -> None:
        self._ledger = ledger
        self._upstreams = upstreams
        self._prices = prices
        self._secret = secret
        self._flights: dict[str, Flight] = {}
        timeout = httpx.Timeout(upstream_timeout_s, connect=CONNECT_TIMEOUT_S, pool=None)
        limits = httpx.Limits(max_connections=None)
        self._proxied = httpx.AsyncClient(timeout=timeout, limits=limits)
        self._direct = httpx.AsyncClient(timeout=timeout, limits=limits, trust_env=False)

    def app(self) -> Starlette:
        """The ASGI application; its lifespan ends the calls in flight."""

        @asynccontextmanager
        async def lifespan(_: Starlette) -> AsyncGenerator[None]:
            yield
            await self._stop()

        return Starlette(
            routes=[
                Route("/healthz", self._health, methods=["GET"]),
                Route("/{provider}/v1/{operation:path}", self._call, methods=["POST"]),
            ],
            exception_handlers={HTTPException: _not_found, RefusedRequest: _refused, ClientDisconnect: _gone},
            lifespan=lifespan,
        )

    async def _health(self, _: Request) -> Response:
        try:
            await self._ledger.ping()
        except StoreUnavailable as error:
            return _response(Problem("store_unavailable", str(error), retry_after_s=5).reply())
        return JSONResponse({"status": "ok", "calls_in_flight": len(self._flights)})

    async def _call(self, request: Request) -> Response:
        identity = self._identity(request)
        upstream = self._upstream(request)
        call = await _read_call(request, identity, upstream)
        headers = {name: request.headers[name] for name in _PASSED_ON if name in request.headers}
        flight = self._board(call, upstream, headers)
        if call.request.get("stream"):
            await asyncio.wait([flight.streaming, flight.task], return_when=asyncio.FIRST_COMPLETED)
            if flight.streaming.done():
                live = flight.streaming.result() | {"x-qe-call": call.key, "x-qe-replayed": "false"}
                return StreamingResponse(flight.follow(), headers=live)
        return _response(await flight.reply(), call.key)

    def _identity(self, request: Request) -> CallIdentity:
        bearer = request.headers.get("authorization", "").removeprefix("Bearer ")
        try:
            return verify(request.headers.get("x-api-key") or bearer, self._secret)
        except TokenRefused as error:
            message = f"the gateway refuses this caller: {error}"
            raise RefusedRequest(Problem("token_refused", message)) from error

    def _upstream(self, request: Request) -> Upstream:
        provider, operation = request.path_params["provider"], request.path_params["operation"]
        upstream = self._upstreams.get(provider)
        if upstream is None:
            names = ", ".join(sorted(self._upstreams))
            raise RefusedRequest(Problem("unknown_provider", f"no provider of this name; there are {names}"))
        known = OPERATIONS[upstream.dialect]
        if operation not in known:
            paths = " or ".join(f"/v1/{path}" for path in known)
            raise RefusedRequest(Problem("unknown_provider", f"this provider is asked at {paths}"))
        if upstream.key_variable and not upstream.key:
            message = f"set {upstream.key_variable} where the gateway runs"
            raise RefusedRequest(Problem("missing_key", message))
        return upstream

    def _board(self, call: Call, upstream: Upstream, headers: dict[str, str]) -> Flight:
        """The flight that gets this call's answer: the one under way, or a new one."""
        found = self._flights.get(call.key)
        if found is not None and not found.task.done():
            return found
        flight = Flight(
            call,
            upstream,
            headers,
            ledger=self._ledger,
            client=self._direct if upstream.direct else self._proxied,
            prices=self._prices,
        )
        self._flights[call.key] = flight
        flight.task.add_done_callback(lambda _: self._land(flight))
        return flight

    def _land(self, flight: Flight) -> None:
        if self._flights.get(flight.key) is flight:
            del self._flights[flight.key]
        if not flight.task.cancelled() and (error := flight.task.exception()):
            _log.error("call %s ended by a fault of the gateway", flight.key[:12], exc_info=error)

    async def _stop(self) -> None:
        if tasks := [flight.task for flight in self._flights.values()]:
            _log.info("waiting for %d calls in flight", len(tasks))
            _, left = await asyncio.wait(tasks, timeout=STOP_GRACE_S)
            for task in left:
                task.cancel()
            await asyncio.gather(*left, return_exceptions=True)
        await self._proxied.aclose()
        await self._direct.aclose()


def _response(reply: Reply, key: str | None = None) -> Response:
    headers = dict(reply.headers)
    if key is not None:
        headers |= {"x-qe-call": key, "x-qe-replayed": "true" if reply.replayed else "false"}
    if reply.cost_usd is not None:
        headers["x-qe-cost-usd"] = f"{reply.cost_usd:f}"
    return Response(reply.body, reply.status, headers)


async def _read_call(request: Request, identity: CallIdentity, upstream: Upstream) -> Call:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > REQUEST_MAX_BYTES:
            message = f"a request may have {REQUEST_MAX_BYTES} bytes"
            raise RefusedRequest(Problem("too_large", message))
    asked = parse_object(bytes(body))
    model: object = asked and asked.get("model")
    if asked is None or not isinstance(model, str) or not model.isprintable():
        raise RefusedRequest(Problem("bad_request", "the body must be a JSON object with a `model`"))
    # The upstream's own name, so that two spellings of one provider are one call.
    return Call(identity, upstream.name, model, request.path_params["operation"], bytes(body), asked)


async def _refused(_: Request, error: Exception) -> Response:
    assert isinstance(error, RefusedRequest), "registered for this class"
    return _response(error.problem.reply())


async def _gone(_: Request, __: Exception) -> Response:
    return Response(status_code=400)  # nobody reads it: the client left before it had said all


async def _not_found(_: Request, error: Exception) -> Response:
    message = (
        "POST to /{provider}/v1/chat/completions or …/embeddings, or /anthropic/v1/messages; GET /healthz"
    )
    reply = Problem("unknown_provider", message).reply()
    status = error.status_code if isinstance(error, HTTPException) else reply.status
    return Response(reply.body, status, reply.headers)

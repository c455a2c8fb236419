"""Runs a GGUF model behind llama.cpp's own OpenAI-compatible server, in a process of its own.

`python -m qefleet.llm.local_server --model PATH --port N` serves `/v1/chat/completions` until SIGTERM, or
until the process that started it is gone. Whoever starts it waits with `wait_ready`.
"""

from __future__ import annotations

import argparse
import asyncio
import ctypes
import os
import signal
import sys
import time
from importlib import import_module
from pathlib import Path
from typing import NoReturn

import httpx

from qefleet.errors import LocalModelUnavailable

CONTEXT_TOKENS = 8192
"""Prompt and answer together; 230 MB of cache for the default model."""

_PR_SET_PDEATHSIG = 1
_PROMPT_CACHE_MIB = 256  # llama.cpp's own default is 8 GiB
_REPEAT_PENALTY, _REPEAT_WINDOW = 1.1, 256
"""What Qwen's makers set. Without it 3 of 7 answers ran on, test after test, until they were cut off."""


def command(model: Path, *, port: int, host: str = "127.0.0.1", threads: int | None = None) -> list[str]:
    """The program and arguments that start the server, for a supervisor."""
    argv = [sys.executable, "-m", __name__, "--model", str(model), "--host", host, "--port", str(port)]
    return argv if threads is None else [*argv, "--threads", str(threads)]


async def wait_ready(url: str, *, timeout_s: float = 120.0) -> None:
    """Return once the server at `url` (scheme, host, port) has loaded its model.

    Raises:
        LocalModelUnavailable: It isn't ready in time.
    """
    deadline = time.monotonic() + timeout_s
    async with httpx.AsyncClient(trust_env=False, timeout=5.0) as client:
        while time.monotonic() < deadline:
            try:
                if (await client.get(f"{url}/health")).is_success:
                    return
            except httpx.TransportError:  # not listening yet, or busy loading
                pass
            await asyncio.sleep(0.1)
    raise LocalModelUnavailable(
        f"the local model's server at {url} isn't ready after {timeout_s:.0f} s: see what it printed, "
        "or choose another model with QE_MODEL"
    )


def default_threads() -> int:
    """One for each processor of ours, four at most, since more gain little; half of them on a busy machine.

    Threads share each step and wait for the slowest. On two processors, tokens/s of prompt and answer: quiet,
    two threads 62 and 20, one thread 33 and 14; at a load of 8, two threads 14 and 4, one thread 18 and 8.
    """
    processors = len(os.sched_getaffinity(0))
    most = min(4, processors)
    return max(1, most // 2) if os.getloadavg()[0] > processors else most


def serve(model: Path, *, host: str, port: int, threads: int) -> NoReturn:
    """Serve until SIGTERM or SIGINT, then end the process.

    Raises:
        LocalModelUnavailable: The server isn't installed, or it can't load the file.
    """
    # Before the library starts its threads: they inherit the mask, so that only `sigwait` sees the signal.
    stopping = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, stopping)
    _die_with_parent()
    # Idle threads that spin fight with whatever else the machine does: 0.7 tokens/s instead of 10 were seen.
    os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
    try:
        xllamacpp = import_module("xllamacpp")  # an extra, without types
    except ImportError as error:
        raise LocalModelUnavailable(
            "the local model's server isn't installed: install qefleet with its extra `local`"
        ) from error

    params = xllamacpp.CommonParams()
    params.model.path = str(model)
    params.model_alias = {model.stem}
    params.hostnames = [host]
    params.port = port
    params.n_ctx = CONTEXT_TOKENS
    params.n_parallel = 1
    params.cache_ram_mib = _PROMPT_CACHE_MIB
    for processors in (params.cpuparams, params.cpuparams_batch):
        processors.n_threads = threads
        processors.poll = 0
    params.sampling.penalty_repeat = _REPEAT_PENALTY
    params.sampling.penalty_last_n = _REPEAT_WINDOW
    params.warmup = False
    params.offline = True
    params.ui = False
    params.endpoint_slots = False  # it shows other callers' prompts
    params.cors_origins = "null"  # no web page has business here
    try:
        server = xllamacpp.Server(params)
    except RuntimeError as error:
        raise LocalModelUnavailable(f"{model} can't be served: {error}") from error
    print(f"serving {model.name} on {server.listening_address} with {threads} threads", flush=True)  # noqa: T201
    signal.sigwait(stopping)
    os._exit(0)  # an answer that nobody waits for isn't finished


def main() -> None:
    """Read the arguments and serve."""
    parser = argparse.ArgumentParser(prog="python -m qefleet.llm.local_server", description=__doc__)
    parser.add_argument("--model", type=Path, required=True, help="a GGUF file")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--threads", type=int, default=default_threads())
    given = parser.parse_args()
    try:
        serve(given.model, host=given.host, port=given.port, threads=given.threads)
    except LocalModelUnavailable as error:
        sys.exit(str(error))


def _die_with_parent() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


if __name__ == "__main__":
    main()

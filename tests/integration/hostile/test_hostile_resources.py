"""Programs that take all they can get, and are stopped without harm to anybody else."""

from __future__ import annotations

import asyncio
import dataclasses
import shutil
import time

import psutil
import pytest
from attacker import SMALL, Attacker


async def test_a_fork_bomb_ends_with_its_run(attacker: Attacker) -> None:
    """Forking without end meets the limit on processes, and the run its time limit."""
    done = await attacker.run(
        """
import os, time
while True:
    try:
        os.fork()
    except OSError:
        time.sleep(0.01)
""",
        limits=dataclasses.replace(SMALL, wall_s=1.5),
    )

    assert (done.exit_code, done.timed_out, done.stopped) == (None, True, "time")


async def test_a_daemon_dies_with_its_run(attacker: Attacker) -> None:
    """A process that left its parent and its session is gone when the run is."""
    done = await attacker.run(
        """
import os, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.close(1); os.close(2)
        time.sleep(600)
    os._exit(0)
os.wait()
print("started")
"""
    )

    assert (done.exit_code, done.output) == (0, b"started\n")
    assert attacker.survivors() == []


async def test_an_endless_loop_ends_at_the_time_limit(attacker: Attacker) -> None:
    """A program that never ends and ignores signals is stopped, and what it printed is kept."""
    started = time.monotonic()
    done = await attacker.run(
        """
import signal
for number in (2, 15):
    signal.signal(number, signal.SIG_IGN)
print("looping", flush=True)
while True:
    pass
""",
        limits=dataclasses.replace(SMALL, wall_s=1),
    )

    assert (done.exit_code, done.stopped, done.output) == (None, "time", b"looping\n")
    assert time.monotonic() - started < 5


async def test_ten_gigabytes_of_memory_are_refused(attacker: Attacker) -> None:
    """One process gets no more memory than its limit."""
    done = await attacker.run("x = bytearray(10 << 30)")

    assert done.exit_code == 1
    assert b"MemoryError" in done.output


async def test_memory_is_counted_for_all_processes_together(attacker: Attacker) -> None:
    """Many processes below the limit each are stopped when they pass it together."""
    done = await attacker.run(
        """
import os, time
for _ in range(12):
    if os.fork() == 0:
        x = bytearray(b"x") * (60 << 20)
        time.sleep(600)
time.sleep(600)
"""
    )

    assert (done.exit_code, done.stopped) == (None, "memory")


async def test_shared_memory_counts_as_well(attacker: Attacker) -> None:
    """Memory that is shared and anonymous is no way around the limit."""
    done = await attacker.run(
        """
import mmap, os, time
for _ in range(12):
    if os.fork() == 0:
        m = mmap.mmap(-1, 60 << 20)
        for i in range(0, 60 << 20, 4096):
            m[i] = 1
        time.sleep(600)
time.sleep(600)
"""
    )

    assert (done.exit_code, done.stopped) == (None, "memory")


@pytest.mark.parametrize("folder", ["/src", "/tmp", "/out", "/dev/shm", "/qe"])
async def test_one_huge_file_is_refused(attacker: Attacker, folder: str) -> None:
    """A file stops growing at its limit, wherever it lies."""
    done = await attacker.run(
        """
import signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
written = 0
try:
    with open(sys.argv[2] + "/huge", "wb", buffering=0) as file:
        while written < 10 << 30:
            written += file.write(b"x" * (1 << 20))
except OSError as error:
    print(error.strerror, written >> 20)
""",
        folder,
    )

    assert done.output == b"File too large 32\n"


async def test_many_files_are_refused(attacker: Attacker) -> None:
    """All that a run writes shares one cap, on bytes and on files."""
    before = shutil.disk_usage("/").used
    done = await attacker.run(
        """
import os
def fill(size, folders):
    count = 0
    try:
        for count in range(100_000):
            with open(f"{folders[count % len(folders)]}/f{size}-{count}", "wb") as file:
                file.write(b"x" * size)
    except OSError as error:
        return f"{error.strerror} {count * size >> 20} {count}"
everywhere = ["/src", "/tmp", "/out", "/dev/shm", "/qe"]
print(fill(8 << 20, everywhere))
for folder in everywhere:
    for name in os.listdir(folder):
        if name.startswith("f"): os.unlink(folder + "/" + name)
print(fill(1, everywhere))
"""
    )
    big, small = done.text.splitlines()

    assert big.startswith("No space left on device")
    assert int(big.split()[-2]) <= 64
    assert small.startswith("No space left on device")
    assert int(small.split()[-1]) <= 2000
    assert shutil.disk_usage("/").used - before < 1 << 30


async def test_endless_output_is_stopped_and_cut(attacker: Attacker) -> None:
    """Ten gigabytes of output leave the head and the tail, and end the run."""
    done = await attacker.run(
        "import os\nprint('first', flush=True)\nfor _ in range(10 << 14): os.write(1, b'y' * (1 << 16))"
    )

    assert (done.exit_code, done.stopped, done.truncated) == (None, "output", True)
    assert done.output.startswith(b"first\n")
    assert len(done.output) < (64 << 10) + 200


async def test_ten_runs_at_once_leave_the_worker_responsive(attacker: Attacker) -> None:
    """While hostile programs run, the event loop goes on and no memory is lost to them."""
    beats = 0

    async def beat() -> None:
        nonlocal beats
        while True:
            await asyncio.sleep(0.05)
            beats += 1

    heart = asyncio.create_task(beat())
    limits = dataclasses.replace(SMALL, wall_s=2, processes=8)
    before = psutil.Process().memory_info().rss
    programs = ["while True: pass", "import os\nwhile True: os.write(1, b'y' * 65536)"] * 3
    done = await asyncio.gather(*(attacker.run(program, limits=limits) for program in programs))
    heart.cancel()

    assert {run.stopped for run in done} <= {"time", "output"}
    assert beats > 10
    assert psutil.Process().memory_info().rss - before < 100 << 20


async def test_a_cancelled_run_is_gone_at_once(attacker: Attacker) -> None:
    """Cancelling leaves no process of the run."""
    running = asyncio.create_task(attacker.run("import os, time\nos.fork()\ntime.sleep(600)"))
    while not attacker.survivors():  # noqa: ASYNC110  what we wait for is another process
        await asyncio.sleep(0.02)
    running.cancel()
    started = time.monotonic()
    with pytest.raises(asyncio.CancelledError):
        await running

    assert time.monotonic() - started < 2
    assert attacker.survivors() == []

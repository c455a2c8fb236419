"""Programs that look for the worker's secrets and for ways out, and find none."""

from __future__ import annotations

import asyncio
import os
import socket
from pathlib import Path

import pytest
from attacker import CANARY, Attacker

from qefleet.testing.postgres import ThrowAwayPostgres

READERS = {
    "environments of all processes": """
import glob
for path in glob.glob("/proc/*/environ") + glob.glob("/proc/*/task/*/environ"):
    try:
        print(open(path, "rb").read())
    except OSError as error:
        print(path, error)
""",
    "memory of process 1": """
for name in ("mem", "maps", "auxv", "stack", "environ", "cmdline"):
    try:
        print(open(f"/proc/1/{name}", "rb").read(4096))
    except OSError as error:
        print(name, error)
""",
    "the root of other processes": """
import glob, os
for root in glob.glob("/proc/*/root") + glob.glob("/proc/*/cwd"):
    for name in ("root/.bashrc", "etc/shadow", "mnt", "boot", "srv"):
        try:
            path = os.path.join(root, name)
            print("ESCAPED", os.listdir(path) if os.path.isdir(path) else open(path).read())
        except OSError as error:
            print(error)
""",
    "host files": """
import os, sys
for path in ("/etc/shadow", "/etc/ssh/ssh_host_rsa_key", "/root/.ssh/id_rsa", "/root/.netrc",
             "/var/run/docker.sock", "/run/docker.sock", "/var/lib", "/run/secrets", "/boot", "/sys/kernel",
             sys.argv[2]):
    try:
        print("ESCAPED", path, os.listdir(path) if os.path.isdir(path) else open(path, "rb").read())
    except OSError as error:
        print(error)
""",
    "a link in the project": """
import os
for path in ("/src/link", "/src/../link"):
    try:
        print("ESCAPED", open(path).read())
    except OSError as error:
        print(error)
""",
    "kernel memory and devices": """
import os
for path in ("/dev/mem", "/dev/kmem", "/dev/sda", "/dev/vda", "/proc/kcore", "/dev/kmsg", "/dev/fuse"):
    try:
        print("ESCAPED", os.open(path, os.O_RDONLY))
    except OSError as error:
        print(error)
for number in ((8, 0), (1, 1), (254, 0)):
    try:
        os.mknod("/tmp/device", 0o60600, os.makedev(*number)); print("ESCAPED")
    except OSError as error:
        print(error)
""",
    "key rings and tracing": """
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
calls = {"keyctl": 250, "add_key": 248, "request_key": 249, "ptrace": 101, "process_vm_readv": 310,
         "bpf": 321, "perf_event_open": 298, "userfaultfd": 323, "io_uring_setup": 425, "memfd_create": 319,
         "open_by_handle_at": 304}
if os.uname().machine == "x86_64":
    for name, number in calls.items():
        result = libc.syscall(number, 16 if name == "ptrace" else 0, 1, 0, 0, 0)
        print("ESCAPED" if result >= 0 else "refused", name, ctypes.get_errno())
""",
    "more rights": """
import os, subprocess
def attempt(name, function, *arguments):
    try:
        print("ESCAPED", name, function(*arguments))
    except OSError as error:
        print(name, error)
attempt("setuid", os.setuid, 0)
attempt("setgid", os.setgid, 0)
attempt("setgroups", os.setgroups, [0])
attempt("chroot", os.chroot, "/tmp")
attempt("chown", os.chown, "/src/module.py", 0, 0)
for program in ("/usr/bin/su", "/usr/bin/sudo", "/usr/bin/mount", "/usr/bin/passwd"):
    if os.path.exists(program):
        done = subprocess.run([program, "-c", "id"], capture_output=True, text=True)
        print("ESCAPED" if "uid=0" in done.stdout else "refused", program)
print(open("/proc/self/status").read().split("CapEff:")[1].split()[0].strip("0") and "ESCAPED")
""",
    "mounts and namespaces": """
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
for flags in (0x10000000, 0x00020000, 0x40000000, 0x10020000):
    print("ESCAPED" if libc.unshare(flags) == 0 else "refused", hex(flags))
for arguments in ((b"proc", b"/tmp", b"proc", 0, None), (b"tmpfs", b"/tmp", b"tmpfs", 0, None),
                  (b"/", b"/tmp", None, 4096, None), (None, b"/", None, 32 | 4096, None)):
    print("ESCAPED" if libc.mount(*arguments) == 0 else "refused")
print("ESCAPED" if libc.umount2(b"/src", 2) == 0 else "refused")
""",
    "writing outside": """
import os, sys
for path in ("/x", "/usr/x", "/etc/x", "/etc/passwd", "/dev/x", "/proc/sys/kernel/core_pattern", "/.lower0/x",
             "/.scratch/x", "/.init/x", "/.init/inside/launch.py",
             "/proc/sysrq-trigger", os.path.realpath(sys.executable)):
    try:
        open(path, "a").write("x"); print("ESCAPED", path)
    except OSError as error:
        print(error)
""",
}


@pytest.mark.parametrize("name", READERS)
async def test_secrets_stay_outside(name: str, attacker: Attacker, guarded: Path) -> None:
    """A program that looks for secrets or rights gets refusals only."""
    done = await attacker.run(READERS[name], str(guarded / "secret.txt"))

    assert (done.exit_code, done.confined) == (0, True), done.text
    assert "ESCAPED" not in done.text
    assert CANARY not in done.text


async def test_host_services_are_out_of_reach(attacker: Attacker, postgres: ThrowAwayPostgres) -> None:
    """Postgres' socket, local ports, abstract sockets and the internet can't be connected to."""
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    abstract = socket.socket(socket.AF_UNIX)
    abstract.bind(f"\0{attacker.marker}")
    abstract.listen()
    async with postgres.database() as dsn:
        done = await attacker.run(
            f"""
import glob, os, socket, sys
def attempt(family, address):
    try:
        with socket.socket(family) as s:
            s.settimeout(2); s.connect(address); print("ESCAPED", address)
    except OSError as error:
        print(address, error)
for port in ({port}, 7233, 8233, 5432, 11434, 22):
    attempt(socket.AF_INET, ("127.0.0.1", port))
for address in ("169.254.169.254", "1.1.1.1", "10.0.0.1", "172.17.0.1"):
    attempt(socket.AF_INET, (address, 80))
attempt(socket.AF_UNIX, "\\0" + sys.argv[1])
import urllib.parse
query = urllib.parse.parse_qs(urllib.parse.urlsplit(sys.argv[2]).query)
for folder in query.get("host", []):
    attempt(socket.AF_UNIX, folder + "/.s.PGSQL.5432")
for path in glob.glob("/tmp/**/.s.PGSQL*", recursive=True) + glob.glob("/run/**/*.sock", recursive=True):
    attempt(socket.AF_UNIX, path)
try:
    print("ESCAPED", socket.getaddrinfo("example.com", 443))
except OSError as error:
    print(error)
""",
            dsn,
        )
    server.close()
    await server.wait_closed()
    abstract.close()

    assert done.exit_code == 0, done.text
    assert "ESCAPED" not in done.text


async def test_links_below_out_are_not_followed(attacker: Attacker, guarded: Path) -> None:
    """A link, a hard link and a pipe where a result is expected are left out."""
    done = await attacker.run(
        """
import os, sys
os.symlink(sys.argv[2], "/out/result")
os.symlink(os.path.dirname(sys.argv[2]), "/out/nested")
""",
        str(guarded / "secret.txt").replace("secret.txt", "result"),
    )
    piped = await attacker.run("import os; os.mkfifo('/out/result')")

    assert (done.exit_code, dict(done.outputs)) == (0, {})
    assert (piped.exit_code, dict(piped.outputs)) == (0, {})


async def test_a_link_to_the_sandboxs_own_files_is_not_followed_either(attacker: Attacker) -> None:
    """Collecting gives what was written under the asked name, nothing else."""
    done = await attacker.run("import os; os.symlink('/etc/passwd', '/out/result')")

    assert dict(done.outputs) == {}


async def test_process_one_of_the_sandbox_cannot_be_harmed(attacker: Attacker) -> None:
    """Signals to process 1 and to everybody end the program itself at most."""
    done = await attacker.run(
        """
import os, signal
for number in range(1, 65):
    try:
        os.kill(1, number)
    except OSError:
        pass
print("still reported")
os.kill(os.getppid(), signal.SIGKILL)
"""
    )

    assert done.exit_code == 0
    assert b"still reported" in done.output


async def test_the_environment_is_only_what_was_asked_for(attacker: Attacker) -> None:
    """Nothing of the worker's environment is passed on."""
    done = await attacker.run("import os; print(sorted(os.environ))")

    expected = ["HOME", "LANG", "LOGNAME", "PATH", "PYTHONDONTWRITEBYTECODE", "TZ", "USER"]
    assert done.text.strip() in (str(expected), str(sorted([*expected, "LC_CTYPE"])))
    assert os.environ["OPENAI_API_KEY"] == CANARY

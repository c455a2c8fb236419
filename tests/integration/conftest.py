"""A real Temporal dev server with the fleet's plug-in, the real sandbox, an environment to run tests in."""

from __future__ import annotations

import compileall
import re
import shutil
import sys
import venv
from collections.abc import AsyncIterator
from importlib import metadata
from pathlib import Path

import pytest
from on_a_server import SUGGESTED_AFTER
from temporalio.testing import WorkflowEnvironment

from qefleet.contracts import attributes
from qefleet.workspace.sandbox import Sandbox
from worker.plugin import qe_plugin
from worker.services.temporal import fairness


@pytest.fixture(scope="session")
async def temporal() -> AsyncIterator[WorkflowEnvironment]:
    async with await WorkflowEnvironment.start_local(  # pyright: ignore[reportUnknownMemberType] - a bare generic of its own
        dev_server_existing_path=str(Path(sys.executable).with_name("temporal")),
        dev_server_log_level="error",
        plugins=[qe_plugin()],
        search_attributes=attributes.ALL,
        dev_server_extra_args=[
            *fairness(),
            "--dynamic-config-value",
            f"limit.historyCount.suggestContinueAsNew={SUGGESTED_AFTER}",
        ],
    ) as environment:
        yield environment


@pytest.fixture(scope="session")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Sandbox:
    return Sandbox.detect(scratch_root=tmp_path_factory.mktemp("scratch"))


@pytest.fixture(scope="session")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment with what tools need, copied from ours, byte-compiled as prepared ones are."""
    folder = tmp_path_factory.mktemp("environment")
    folder.chmod(0o755)
    venv.create(folder, symlinks=True)
    (packages,) = folder.glob("lib/python*/site-packages")
    for name in (
        "pytest",
        "pluggy",
        "iniconfig",
        "packaging",
        "pygments",
        "coverage",
        "hypothesis",
        "sortedcontainers",
    ):
        for file in metadata.files(name) or ():
            if ".." not in file.parts and file.suffix != ".pyc":
                (packages / file).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(file.locate(), packages / file)
    compileall.compile_dir(packages, quiet=2, rx=re.compile("pygments/lexers"))
    return folder

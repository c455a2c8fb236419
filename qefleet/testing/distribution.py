"""Distributions of agents that are installed nowhere: for processes that a test starts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from qefleet.agents.installed import GROUP

TESTING_AGENTS = {"testing": "qefleet.testing.agents:AGENTS"}


def lay_distribution(
    folder: Path, agents: Mapping[str, str] = TESTING_AGENTS, *, name: str = "qefleet-testing-agents"
) -> Path:
    """Write a distribution's metadata with these entry points; who has the folder on its path has the agents.

    Args:
        folder: Where to; `PYTHONPATH` of the process that is to have them (`qe`, or `qe up` for its worker).
        agents: Entry points, `module:object` by name; the agents of `qefleet.testing.agents` without it.
        name: The distribution's.

    Returns:
        The folder.
    """
    metadata = folder / f"{name.replace('-', '_')}-1.0.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    lines = [f"{point} = {value}\n" for point, value in agents.items()]
    (metadata / "entry_points.txt").write_text(f"[{GROUP}]\n" + "".join(lines))
    return folder

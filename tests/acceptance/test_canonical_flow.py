"""The fleet's canonical run by its name: a real server, real tools, a scripted model."""

from __future__ import annotations

from pathlib import Path

import pytest
from planted import make_project
from running_fleet import running_fleet

from qefleet.contracts.runs import TASK_QUEUE, Decision, RunResult

_MORE = '''def wrap(value):
    """Keep it between 0 and 9."""
    if value > 9:
        return 9
    return value
'''


@pytest.mark.soak
async def test_canonical_run_generates_by_file_and_gates_over_all(tmp_path: Path) -> None:
    """Each file is a part; its tests are executed; coverage over all."""
    project = make_project(tmp_path / "project", functions=1)
    (project / "planted" / "more.py").write_text(_MORE)
    async with running_fleet(tmp_path / "data") as fleet:
        result = await fleet.client.execute_workflow(
            "Flow",
            {"target": str(project), "flow": "canonical"},
            id="canonical",
            task_queue=TASK_QUEUE,
            result_type=RunResult,
        )

    found = {step.step: step for step in result.steps}
    generated, executed = found["generate.test-generator"], found["generate.test-executor"]
    assert generated.measured.value("items.total") == executed.measured.value("items.completed") == 2
    assert generated.measured.value("generation.kept") == 1
    assert found["parts"].measured.value("coverage.lines_covered") == 3
    assert found["cover"].measured.value("coverage.before.lines_covered") == 3
    assert (found["cover"].measured.value("coverage.lines_covered") or 0) > 3
    assert result.decision is Decision.GO, found["gate"].headline
    assert not [note for note in result.notes if "is left out" in note]
    assert found["security"].measured.value("security.critical") == 0

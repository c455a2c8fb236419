"""What a judgement cites has to be in the evidence."""

from __future__ import annotations

import json

import pytest
from pydantic import BaseModel

from qefleet.agents.citations import Citation, check_citations

_EVIDENCE = json.dumps(
    {
        "issues": [{"id": "B608@app/db.py:12", "path": "app/db.py", "line": 12, "end_line": 14}],
        "failing": ["tests/test_db.py::test_query"],
        "log": "app/other.py:7: in query",
    }
).encode()


class _Part(BaseModel):
    issue: Citation
    why: str = ""


class _Answer(BaseModel):
    summary: str = ""
    parts: list[_Part] = []
    also: list[Citation] = []
    first: Citation | None = None


@pytest.mark.parametrize(
    "answer",
    [
        _Answer(parts=[_Part(issue="B608@app/db.py:12", why="app/db.py:12 joins strings")]),
        _Answer(also=["tests/test_db.py::test_query"], first="B608@app/db.py:12"),
        _Answer(summary="app/db.py:14 and app/other.py:7; at 10:30, ratio 3:2, http://host.example:80/"),
        _Answer(),
    ],
)
def test_what_is_there_can_be_cited(answer: _Answer) -> None:
    check_citations(answer, _EVIDENCE)


@pytest.mark.parametrize(
    ("answer", "named"),
    [
        (_Answer(parts=[_Part(issue="B999@app/db.py:12")]), "B999"),
        (_Answer(also=["tests/test_db.py::test_other"]), "test_other"),
        (_Answer(first="db.py"), "db.py"),
        (_Answer(summary="see app/db.py:13"), "app/db.py:13"),
        (_Answer(parts=[_Part(issue="B608@app/db.py:12", why="as app/none.py:1 shows")]), "app/none.py:1"),
    ],
)
def test_what_is_not_there_makes_an_answer_unusable(answer: _Answer, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        check_citations(answer, _EVIDENCE)

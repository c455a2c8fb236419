"""Segments and mutants: what is cut from source."""

from __future__ import annotations

from pathlib import Path

import pytest

from qefleet.tools.generation.mutants import make_mutants
from qefleet.tools.generation.segments import find_segments
from qefleet.tools.source_tree import SourceTree, parse_source

_SOURCE = '''import os


def easy(x):
    """Add one.

    >>> easy(1)
    2
    """
    if x is None:
        return 0
    return x + 1


def touches(path, mode, third, fourth):
    with open(path) as file:
        os.remove(path)
        return file.read(mode)


class Box(dict):
    def __init__(self, size):
        self.size = size

    @property
    def half(self):
        if self.size > 1:
            return self.size // 2
        return 0
'''


def _tree() -> SourceTree:
    tree = parse_source(_SOURCE)
    assert tree is not None
    return tree


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "pkg").mkdir()
    (tmp_path / "pkg" / "__init__.py").write_text("")
    (tmp_path / "pkg" / "mod.py").write_text(_SOURCE)
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_mod.py").write_text(
        "def test_it():\n    result = easy(4)\n    assert result == 5\n"
    )
    return tmp_path


def test_segments_are_ranked_by_gain_and_ease(project: Path) -> None:
    """A short documented function comes before a property, and one that touches files comes last."""
    found = find_segments(project, {"pkg/mod.py": [10, 11, 12, 16, 17, 18, 27, 28, 29]}, {})

    assert [segment.id for segment in found] == ["pkg.mod:easy", "pkg.mod:Box.half", "pkg.mod:touches"]


def test_a_segment_tells_what_a_test_needs(project: Path) -> None:
    """For a method: its class with the constructor, the import, the lines."""
    easy, half = find_segments(project, {"pkg/mod.py": [11, 28]}, {"pkg/mod.py": [(27, 29)]})

    assert (half.class_header, half.import_line) == (
        "class Box(dict):\n    def __init__(self, size):\n        self.size = size",
        "from pkg.mod import Box",
    )
    assert (half.start_line, half.missing_lines, half.missing_branches) == (25, [28], [(27, 29)])
    assert easy.parameters == ["x"]


def test_long_functions_come_in_pieces(project: Path) -> None:
    """No segment is longer than 50 lines; a piece begins with its function's signature."""
    body = "".join(f"    x = x + {number}\n" for number in range(150))
    (project / "pkg" / "long.py").write_text(f"def long(x):\n{body}    return x\n")

    found = find_segments(project, {"pkg/long.py": list(range(20, 60)) + list(range(120, 130))}, {})

    assert all(segment.source.count("\n") < 50 for segment in found)
    assert all(segment.source.startswith("def long(x):\n") for segment in found)
    covered = {line for segment in found for line in segment.missing_lines}
    assert covered == set(range(20, 60)) | set(range(120, 130))


async def test_mutants_stay_on_the_lines_asked_for() -> None:
    """Each mutant differs from the original in one place, on one of the lines."""
    mutants = await make_mutants(_tree(), "pkg/mod.py", [10, 12])

    lines = _SOURCE.split("\n")
    changed = [
        [
            number
            for number, (old, new) in enumerate(zip(lines, m.text.split("\n"), strict=True), 1)
            if old != new
        ]
        for m in mutants
    ]
    assert sorted({tuple(numbers) for numbers in changed}) == [(10,), (12,)]
    assert len({mutant.text for mutant in mutants}) == len(mutants)


async def test_decorated_methods_are_mutated() -> None:
    """mutmut leaves properties alone; replacing text doesn't have to."""
    mutants = await make_mutants(_tree(), "pkg/mod.py", [27, 28])

    assert any("self.size >= 1" in mutant.text for mutant in mutants)
    assert all("    @property\n    def half(self):" in mutant.text for mutant in mutants)


async def test_the_choice_of_mutants_is_bounded_and_repeatable() -> None:
    """The same source gives the same mutants, one a line before a second one."""
    first = await make_mutants(_tree(), "pkg/mod.py", range(1, 40), most=4)
    second = await make_mutants(_tree(), "pkg/mod.py", range(1, 40), most=4)

    assert first == second
    assert len({mutant.line for mutant in first}) == len(first) == 4


async def test_plain_lines_have_mutants_too() -> None:
    """Where mutmut's operators find nothing, a condition is negated and a result dropped."""
    tree = parse_source("def f(x):\n    if x:\n        return x\n    return\n")
    assert tree is not None

    mutants = await make_mutants(tree, "m.py", [2, 3, 4])

    assert [mutant.text.split("\n")[mutant.line - 1].strip() for mutant in mutants] == [
        "if not (x):",
        "return None",
    ]


async def test_lines_outside_of_functions_are_not_mutated() -> None:
    """Import-time code would break every test at once, which proves nothing about any."""
    assert await make_mutants(_tree(), "pkg/mod.py", [1, 21]) == []

"""What has changed in a module: functions, more than that, or nothing that is code."""

from __future__ import annotations

import pytest

from qefleet.tools.changes.changed_code import CodeChange, compare_code

_BEFORE = """LIMIT = 1


@cached
def first(x=1):
    return x


class Shape:
    sides = 3

    def area(self):
        return helper()
"""


def _change(*functions: str, beyond: bool = False, added: tuple[str, ...] = ()) -> CodeChange:
    return CodeChange(frozenset(functions), beyond, frozenset(added))


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("LIMIT = 1", "# a comment\n\nLIMIT = 1  # so", _change()),
        ("return x", "return -x", _change("first")),
        ("x=1", "x=2", _change("first")),
        ("return helper()", "return 0", _change("Shape.area")),
        ("LIMIT = 1", "LIMIT = 2", _change(beyond=True)),
        ("sides = 3", "sides = 4", _change(beyond=True)),
        ("@cached", "@counted", _change("first", beyond=True)),
        ("LIMIT = 1", "LIMIT = 1\n\n\ndef second():\n    return 2", _change(added=("second",))),
        ("LIMIT = 1", "LIMIT = 1\n\n\ndef helper():\n    return 2", _change(beyond=True)),
        ("LIMIT = 1", "LIMIT = 1\n\n\n@cached\ndef second():\n    return 2", _change(beyond=True)),
        ("    def area", "    def size(self):\n        return 1\n\n    def area", _change(beyond=True)),
        ("    def area", "    def size", _change("Shape.area", beyond=True)),
        ("LIMIT = 1", "LIMIT =", _change(beyond=True)),
    ],
)
def test_a_change_is_told_by_what_it_can_reach(old: str, new: str, expected: CodeChange) -> None:
    """A new function that the module names already, is decorated or a method, may change what there was."""
    assert compare_code(_BEFORE, _BEFORE.replace(old, new, 1)) == expected


def test_added_and_deleted_modules_change_all_of_theirs() -> None:
    added, deleted = compare_code(None, _BEFORE), compare_code(_BEFORE, None)
    assert (added.functions, added.beyond, deleted.functions, deleted.beyond) == (
        frozenset(),
        True,
        frozenset({"first", "Shape.area"}),
        True,
    )

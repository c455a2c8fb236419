"""Named statements."""

from __future__ import annotations

import pytest

from qefleet.sql.queries import load_queries, parse_queries


def test_statements_are_found_by_name() -> None:
    """Each statement comes without its description and its semicolon."""
    text = "-- top\n\n-- name: one\n-- What it does.\nSELECT 1;\n-- name: two\n-- Two\n-- lines.\nSELECT\n2\n"

    assert parse_queries(text) == {"one": "SELECT 1", "two": "SELECT\n2"}


@pytest.mark.parametrize(
    "text",
    [
        "-- name: a\nSELECT 1",
        "-- name: a\n-- only words",
        "-- name: a\n-- x\nSELECT 1\n-- name: a\n-- x\nSELECT 1",
    ],
    ids=["undescribed", "empty", "twice"],
)
def test_sloppy_files_are_refused(text: str) -> None:
    """A statement without description, a description without statement, a name given twice."""
    with pytest.raises(ValueError, match="query a"):
        parse_queries(text)


def test_the_shipped_file_is_readable() -> None:
    """The shipped statements parse."""
    assert "call_take" in load_queries()

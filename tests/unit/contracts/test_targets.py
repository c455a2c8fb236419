"""The short forms of a target."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from qefleet.contracts.targets import Target


@pytest.mark.parametrize(
    ("text", "kind", "location", "ref"),
    [
        ("/srv/project", "path", "/srv/project", None),
        ("pypi:boltons==26.2.0", "pypi", "boltons", "26.2.0"),
        ("pypi:cachetools", "pypi", "cachetools", None),
        ("git+https://example.com/a/b@main", "git", "https://example.com/a/b", "main"),
        ("git+https://example.com/a/b", "git", "https://example.com/a/b", None),
        ("git+ssh://git@example.com/a/b@v1.2", "git", "ssh://git@example.com/a/b", "v1.2"),
    ],
)
def test_short_forms(text: str, kind: str, location: str, ref: str | None) -> None:
    """Each form is read, and written back as it was."""
    target = Target.model_validate(text)

    assert (target.kind, target.location, target.ref, str(target)) == (kind, location, ref, text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "relative/path",
        "pypi:",
        "pypi:a b",
        "git+ftp://example.com/a",
        "git+https://me:secret@example.com/a/b@main",
        "git+https://token@example.com/a/b",
        "https://example.com/a",
        "git+https://example.com/a/b@-rf",
        "/a\x00b",
    ],
)
def test_other_texts_are_refused(text: str) -> None:
    """What is none of them is refused at once."""
    with pytest.raises(ValidationError):
        Target.model_validate(text)

"""What the docs show works."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[3]


def test_links_lead_somewhere() -> None:
    """Each relative link and picture in README and docs is there, and so is the heading that it names."""
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    links = [
        (page, found["path"], found["heading"])
        for page in pages
        for found in re.finditer(r"\]\((?P<path>[^)#:]*)(?:#(?P<heading>[^)]*))?\)", page.read_text())
    ]

    assert [
        f"{page.name}: {path}#{heading}"
        for page, path, heading in links
        if not _is_there(page, path, heading)
    ] == []


def _is_there(page: Path, path: str, heading: str | None) -> bool:
    there = page.parent / path if path else page
    return there.exists() and (heading is None or heading in _headings(there))


def _headings(page: Path) -> set[str]:
    """As GitHub names them."""
    titles = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}

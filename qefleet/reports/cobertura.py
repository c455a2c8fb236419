"""coverage.py's Cobertura report, as other programs expect it: paths from the repository's root."""

from __future__ import annotations

import posixpath
from xml.etree.ElementTree import Element, ParseError, SubElement, fromstring, tostring

from qefleet.workspace.archive import safe_path

_HEAD = (
    b'<?xml version="1.0" encoding="UTF-8"?>\n'
    b'<!DOCTYPE coverage SYSTEM "http://cobertura.sourceforge.net/xml/coverage-04.dtd">\n'
)


def cobertura(content: bytes | None, *, folder: str = "") -> bytes | None:
    """The report with paths that are true outside of the sandbox.

    Args:
        content: As coverage.py wrote it in the sandbox, below `/src`.
        folder: Where the target lies in its repository, with a slash at its end.

    Returns:
        None where there is no such report: code under test may have written anything in its place.
    """
    try:
        root = fromstring(content or b"")  # noqa: S314 - expat bounds the growth of entities and fetches none
    except (ParseError, ValueError):
        return None
    sources = root.find("sources")
    if root.tag != "coverage" or sources is None:
        return None
    prefixes = [source.text or "" for source in sources]
    for listed in root.iter("class"):
        name = _inside(listed.get("filename", ""), prefixes)
        if not safe_path(name):
            return None
        listed.set("filename", folder + name)
    for line in root.iter("line"):
        line.attrib.pop("missing-branches", None)  # an addition of coverage.py's, unknown to the DTD
    _replace(sources)
    return _HEAD + tostring(root)


def _inside(filename: str, prefixes: list[str]) -> str:
    """Relative to `/src`."""
    prefix = prefixes[0] if len(prefixes) == 1 else ""
    return posixpath.relpath(posixpath.join("/src", prefix, filename), "/src")


def _replace(sources: Element) -> None:
    for source in list(sources):
        sources.remove(source)
    SubElement(sources, "source").text = "."

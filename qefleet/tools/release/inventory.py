"""What a target's environment consists of: a bill of materials, and licences."""

from __future__ import annotations

import json
import re
from typing import Any

from qefleet.tools.ground import Ground
from qefleet.tools.program import Tool, ToolReport, run_tool

CYCLONEDX = Tool(name="cyclonedx-bom", module="cyclonedx_py")
PIP_LICENSES = Tool(name="pip-licenses", module="piplicenses")

UNKNOWN = "UNKNOWN"


async def bill_of_materials(ground: Ground) -> ToolReport[dict[str, str]]:
    """A CycloneDX document of all that is installed; its components' versions by name."""
    output = ["--output-reproducible", "--of", "JSON", "-o", "/out/sbom.cdx.json"]
    return await run_tool(
        ground,
        CYCLONEDX,
        # Validating its own document would take ten times as long as all the rest.
        ["environment", "--no-validate", *output, ground.python],
        read=_components,
        report="sbom.cdx.json",
    )


async def licences(ground: Ground) -> ToolReport[dict[str, str]]:
    """The licence of each installed distribution, as its metadata and classifiers tell it."""
    return await run_tool(
        ground,
        PIP_LICENSES,
        [f"--python={ground.python}", "--from=mixed", "--format=json", "--with-system"],
        read=_licences,
    )


def _components(content: bytes) -> dict[str, str]:
    document: dict[str, Any] = json.loads(content)
    if document["bomFormat"] != "CycloneDX":
        raise ValueError("it is no CycloneDX document")
    return {_key(found["name"]): str(found.get("version", "")) for found in document.get("components", [])}


def _licences(content: bytes) -> dict[str, str]:
    found: list[dict[str, str]] = json.loads(content)
    return {_key(one["Name"]): one["License"] for one in found}


def _key(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()

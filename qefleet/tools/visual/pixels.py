"""Screenshots against their baselines: how many pixels differ, and where."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from qefleet.contracts.measured import ArtifactRef
from qefleet.contracts.visual import BaselineFrom, Box
from qefleet.memory.artifacts import reference
from qefleet.tools.ground import Ground, run_program
from qefleet.tools.program import ToolReport, not_installed, read_report
from qefleet.tools.visual.pages import PILLOW, Look
from qefleet.workspace.sandbox import GIB, Limits

_LIMITS = Limits(memory_bytes=2 * GIB, collect_bytes=512 << 20)


@dataclass(frozen=True, kw_only=True)
class Compared:
    """One screenshot and its baseline."""

    look: Look
    baseline: BaselineFrom | None
    """None where there is none."""
    pixels: int = 0
    all_pixels: int = 1
    """Of the larger picture."""
    box: Box | None = None
    difference: tuple[ArtifactRef, bytes] | None = None


async def compare_pixels(
    ground: Ground,
    looks: Sequence[Look],
    *,
    folder: str,
    others: Mapping[BaselineFrom, Mapping[str, bytes]],
    tolerance: int,
    timeout_s: float,
) -> ToolReport[list[Compared]]:
    """Compare each screenshot with the first baseline that there is for it.

    Args:
        ground: The project's workspace.
        looks: The screenshots.
        folder: Where the project keeps baselines, relative to it; they go first.
        others: Images by where they are from, in order of precedence, and by name.
        tolerance: Levels of a colour channel, of 255, by which a pixel may differ.
        timeout_s: Wall time after which it is stopped.
    """
    version = PILLOW.version()
    if version is None:
        return not_installed(PILLOW)
    laid: dict[str, bytes] = {}
    pairs: list[dict[str, Any]] = []
    for n, look in enumerate(looks):
        before = [("project", f"/src/{folder}/{look.name}")]
        laid[f"/qe/after/{n}.png"] = look.image
        for source, images in others.items():
            if look.name in images:
                path = f"/qe/{source}/{n}.png"
                laid[path] = images[look.name]
                before.append((source, path))
        pairs.append(
            {
                "name": look.name,
                "before": before,
                "after": f"/qe/after/{n}.png",
                "difference": f"/out/{n}.png",
            }
        )
    outcome = await run_program(
        ground,
        "qe_pixels",
        {"pairs": pairs, "tolerance": tolerance},
        files=laid,
        collect=["pixels.json", *(f"{n}.png" for n in range(len(looks)))],
        limits=replace(_LIMITS, wall_s=timeout_s, cpu_s=timeout_s),
        tools=True,
    )
    return read_report(
        PILLOW,
        version,
        argv=["compare", f"--tolerance={tolerance}", *(look.name for look in looks)],
        finished=outcome.finished,
        content=outcome.outputs.get("pixels.json"),
        read=lambda content: _read(content, outcome.outputs, looks),
        name="pixels.json",
    )


def _read(content: bytes, images: Mapping[str, bytes], looks: Sequence[Look]) -> list[Compared]:
    compared: list[Compared] = []
    for n, (look, found) in enumerate(zip(looks, json.loads(content)["compared"], strict=True)):
        if found["baseline"] is None:
            compared.append(Compared(look=look, baseline=None))
            continue
        picture = images.get(f"{n}.png")
        name = f"difference__{look.name}"
        compared.append(
            Compared(
                look=look,
                baseline=found["baseline"],
                pixels=int(found["pixels"]),
                all_pixels=int(found["all"]),
                box=Box.model_validate(found["box"]),
                difference=(reference(picture, name=name, media_type="image/png"), picture)
                if picture
                else None,
            )
        )
    return compared

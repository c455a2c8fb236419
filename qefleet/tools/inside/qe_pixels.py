"""Compare screenshots with their baselines, pixel by pixel: how many differ, within which box, and a picture.

Runs with the interpreter of the fleet's own environment; images of the project are opened here alone.
"""

from __future__ import annotations

import functools
import json
import sys
from pathlib import Path
from typing import Any

from PIL import Image, ImageChops, ImageDraw, UnidentifiedImageError

_RED, _WHITE = (255, 0, 0), (255, 255, 255)


def main() -> None:
    """Compare the pairs of `/qe/spec.json`; the report is `/out/pixels.json`."""
    spec: dict[str, Any] = json.loads(Path("/qe/spec.json").read_text("utf-8"))
    found: list[dict[str, Any]] = []
    for pair in spec["pairs"]:
        kept = [(source, path) for source, path in pair["before"] if Path(path).is_file()]
        if not kept:
            found.append({"name": pair["name"], "baseline": None})
            continue
        source, before = kept[0]
        try:
            compared = _compare(
                Path(before), Path(pair["after"]), spec["tolerance"], Path(pair["difference"])
            )
        except (UnidentifiedImageError, Image.DecompressionBombError, OSError, SyntaxError) as error:
            sys.exit(f"{pair['name']}: the baseline of the {source} is no image that can be read: {error}")
        found.append({"name": pair["name"], "baseline": source, **compared})
    Path("/out/pixels.json").write_text(json.dumps({"compared": found}), "utf-8")


def _compare(before: Path, after: Path, tolerance: int, difference: Path) -> dict[str, Any]:
    old, new = (Image.open(path).convert("RGB") for path in (before, after))
    size = (max(old.width, new.width), max(old.height, new.height))
    channels = ImageChops.difference(_on(size, old), _on(size, new)).split()
    largest = functools.reduce(ImageChops.lighter, channels)
    table = [255 if level > tolerance else 0 for level in range(256)]
    differs = largest.point(table)  # pyright: ignore[reportUnknownMemberType] - Pillow's own type is open
    common = (min(old.width, new.width), min(old.height, new.height))
    for corner in ((common[0], 0), (0, common[1])):
        differs.paste(255, (*corner, *size))  # what only one of the two has differs, whatever its colour
    pixels = differs.histogram()[255]
    box = differs.getbbox()
    if box:
        picture = Image.blend(_on(size, new), Image.new("RGB", size, _WHITE), 0.6)
        picture.paste(_RED, mask=differs)
        ImageDraw.Draw(picture).rectangle((box[0] - 2, box[1] - 2, box[2] + 1, box[3] + 1), outline=_RED)
        picture.save(difference, optimize=True)
    left, top, right, bottom = box or (0, 0, 0, 0)
    return {
        "pixels": pixels,
        "all": size[0] * size[1],
        "box": {"x": left, "y": top, "width": right - left, "height": bottom - top},
    }


def _on(size: tuple[int, int], image: Image.Image) -> Image.Image:
    canvas = Image.new("RGB", size, _WHITE)
    canvas.paste(image, (0, 0))
    return canvas


if __name__ == "__main__":
    main()

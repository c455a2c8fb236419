"""What a memory would say, in plain Python: keys, values and globs for the contract, and their oracle."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st

PARTS = st.text(min_size=1, max_size=8) | st.sampled_from(
    ["aqe/", "a", "b", "%", "_", "\\", "*", "?", "/", "\U0010ffff"]
)
KEYS = (
    st.lists(PARTS, min_size=1, max_size=4)
    .map("".join)
    .filter(lambda key: "\x00" not in key and key.encode("utf-8", "ignore").decode() == key)
)
GLOBS = st.lists(st.sampled_from(["*", "?"]) | PARTS, max_size=5).map("".join)
TEXTS = st.text(st.characters(), max_size=12) | st.sampled_from(
    ["\x00", "\ud800", "a\udfffb", "straße", "a_b c"]
)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=8,
)
QUESTIONS = TEXTS | st.sampled_from(["a b", "true", "STRASSE", ""])


def exact(value: Any) -> str:
    """A text that two values share when JSON can't tell them apart, numbers and their kinds included."""
    return json.dumps(json.loads(json.dumps(value)), sort_keys=True)


def glob_matches(glob: str, key: str) -> bool:
    """By the definition, one character after the other."""
    if not glob:
        return not key
    if glob[0] == "*":
        return glob_matches(glob[1:], key) or (bool(key) and glob_matches(glob, key[1:]))
    return bool(key) and glob[0] in ("?", key[0]) and glob_matches(glob[1:], key[1:])


def words(text: str) -> set[str]:
    """Words of a plain text."""
    return set(re.findall(r"[^\W_]+", text.casefold()))


def words_of_value(value: Any) -> set[str]:
    """Words of everything in a value, as JSON writes it."""
    match value:
        case str():
            return words(value)
        case dict():
            return set[str]().union(*(words(key) | words_of_value(item) for key, item in value.items()))  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType] - parsed JSON
        case list():
            return set[str]().union(*(words_of_value(item) for item in value))  # pyright: ignore[reportUnknownVariableType] - parsed JSON
        case _:
            return words(json.dumps(value))


@dataclass
class Oracle:
    """A dict for each partition, and what was there before."""

    values: dict[tuple[str, str], tuple[int, Any]] = field(
        default_factory=dict[tuple[str, str], tuple[int, Any]]
    )
    past: dict[tuple[str, str], list[tuple[int, str]]] = field(
        default_factory=dict[tuple[str, str], list[tuple[int, str]]]
    )

    def store(self, partition: str, key: str, value: Any) -> int:
        self.delete(partition, key)
        versions = [version for version, _ in self.past.get((partition, key), [])]
        version = max(versions, default=0) + 1
        self.values[partition, key] = version, json.loads(json.dumps(value))
        return version

    def retrieve(self, partition: str, key: str) -> tuple[int, str] | None:
        found = self.values.get((partition, key))
        return (found[0], exact(found[1])) if found else None

    def delete(self, partition: str, key: str) -> bool:
        found = self.values.pop((partition, key), None)
        if found:
            self.past.setdefault((partition, key), []).append((found[0], exact(found[1])))
        return found is not None

    def search(self, partition: str, glob: str) -> list[str]:
        return sorted(key for where, key in self.values if where == partition and glob_matches(glob, key))

    def compare_and_set(self, partition: str, key: str, value: Any, expected: int | None) -> int | None:
        found = self.values.get((partition, key))
        return self.store(partition, key, value) if (found[0] if found else None) == expected else None

    def append(self, partition: str, key: str, item: Any) -> int | None:
        found = self.values.get((partition, key), (0, []))[1]
        return self.store(partition, key, [*found, item]) if isinstance(found, list) else None

    def clear(self, partition: str) -> int:
        return sum(self.delete(partition, key) for key in self.search(partition, "*"))

    def history(self, partition: str, key: str) -> list[tuple[int, str]]:
        return self.past.get((partition, key), [])[::-1]

    def find(self, partition: str, text: str) -> list[tuple[float, str]]:
        asked = words(text)
        shares = {
            key: len(asked & (words(key) | words_of_value(value))) / len(asked)
            for (where, key), (_, value) in self.values.items()
            if where == partition and asked
        }
        return sorted(
            ((share, key) for key, share in shares.items() if share), key=lambda one: (-one[0], one[1])
        )

    def stats(self) -> tuple[int, dict[str, int], int]:
        counts = Counter(partition for partition, _ in self.values)
        return len(self.values), dict(counts), sum(map(len, self.past.values()))

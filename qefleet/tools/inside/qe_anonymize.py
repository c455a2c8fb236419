"""Pseudonyms for a dataset, and what an attacker with the original still finds.

`/qe/anonymize-spec.json` in, `/out/anonymized.json` out. What names a person is replaced, the same by the
same; what narrows people down together (quasi-identifiers) is made coarser, a step at a time, until each
combination is shared by `k` rows; rows that still stand out lose them. Then it is measured on the two tables
alone. Run with the fleet's interpreter.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mimesis import Generic
from mimesis.locales import Locale

Row = dict[str, Any]
_GONE = "*"
_LEVELS = 5
_SUPPRESSED = 0.05
_DIRECT = re.compile(
    r"e_?mail|(^|_)name$|(first|last|full|given|family|user|nick)_?name|surname|login|handle|phone|mobile"
    r"|(^|_)tel($|_)|fax|address|street|(^|_)ssn|social_?security|passport|iban|card|account|(^|_)ip($|_)"
    r"|(^|_)mac($|_)|url|(^|_)id$|uuid"
)
_QUASI = re.compile(
    r"(^|_)age$|birth|(^|_)dob$|zip|postal|post_?code|gender|(^|_)sex$|city|town|country|state|region"
    r"|job|occupation|profession|education|marital|ethnic|race|nationality|religion"
)
_DATE = re.compile(r"^(\d{4})-(\d\d)-\d\d")


def main() -> None:
    """Read, replace, coarsen, measure."""
    spec: dict[str, Any] = json.loads(Path("/qe/anonymize-spec.json").read_text("utf-8"))
    original, kind = _read(Path(spec["path"]))
    names = list(dict.fromkeys(name for row in original for name in row))
    quasi = [name for name in spec["quasi_identifiers"] if name in names] or [
        name for name in names if _QUASI.search(_plain(name))
    ]
    direct = [name for name in names if name not in quasi and _DIRECT.search(_plain(name))]
    replaced = _replaced(original, direct, seed=spec["seed"], locale=spec["locale"])
    coarse, levels = _coarsened(replaced, quasi, spec["k"])
    answer = {
        "rows": len(original),
        "direct": direct,
        "quasi_identifiers": quasi,
        "levels": levels,
        **measured(original, coarse, quasi=quasi),
        "dataset": _written(coarse, names, kind),
    }
    Path("/out/anonymized.json").write_text(json.dumps(answer), "utf-8")


def measured(original: Sequence[Row], given: Sequence[Row], *, quasi: Sequence[str]) -> dict[str, int]:
    """What can be told of people from the two tables, by counting and by an exact join."""
    before, after = _classes(original, quasi), _classes(given, quasi)
    names = list(dict.fromkeys(name for row in original for name in row))
    kept = [name for name in names if name not in quasi]
    whole = Counter(_of(row, [*kept, *quasi]) for row in original)
    suppressed = [row for row in given if quasi and all(row.get(name) == _GONE for name in quasi)]
    left = {key: size for key, size in after.items() if any(part != _GONE for part in key)}
    return {
        "k_before": min(before.values(), default=0),
        "k_after": min((left or after).values(), default=0),
        "unique_before": sum(size == 1 for size in before.values()),
        "unique_after": sum(size == 1 for size in left.values()),
        "suppressed": len(suppressed),
        "reidentifiable_before": sum(before[_of(row, quasi)] == 1 for row in original) if quasi else 0,
        "reidentifiable": sum(before.get(_of(row, quasi)) == 1 for row in given) if quasi else 0,
        "unchanged": sum(_of(row, [*kept, *quasi]) in whole for row in given),
    }


def _classes(rows: Sequence[Row], quasi: Sequence[str]) -> Counter[tuple[str, ...]]:
    return Counter(_of(row, quasi) for row in rows)


def _of(row: Row, names: Sequence[str]) -> tuple[str, ...]:
    return tuple(_text(row.get(name)) for name in names)


def _blank(value: Any) -> bool:
    return value is None or value == ""


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True)


def _read(path: Path) -> tuple[list[Row], str]:
    text = path.read_text("utf-8-sig")
    if path.suffix == ".csv":
        return [dict(row) for row in csv.DictReader(io.StringIO(text))], "csv"
    if path.suffix == ".jsonl" or not text.lstrip().startswith("["):
        return [json.loads(line) for line in text.splitlines() if line.strip()], "jsonl"
    return list(json.loads(text)), "json"


def _written(rows: Sequence[Row], names: Sequence[str], kind: str) -> str:
    if kind == "json":
        return json.dumps(rows, indent=1, ensure_ascii=False)
    if kind == "jsonl":
        return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    output = io.StringIO()
    writer = csv.DictWriter(output, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return output.getvalue()


def _plain(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()


def _replaced(rows: Sequence[Row], direct: Sequence[str], *, seed: int, locale: str) -> list[Row]:
    """Pseudonyms in the order in which values are met: nothing of a value is in its pseudonym."""
    made: dict[str, dict[str, Any]] = {}
    for name in direct:
        maker: Any = Generic(locale=Locale(locale), seed=f"{seed}/{name}")
        values = list(dict.fromkeys(_text(row[name]) for row in rows if not _blank(row.get(name))))
        # In another order than the original's, in which people are often sorted.
        maker.random.shuffle(values)
        made[name] = {value: _pseudonym(name, number, maker) for number, value in enumerate(values, 1)}
    return [
        {
            name: _like(value, made[name][_text(value)]) if name in made and not _blank(value) else value
            for name, value in row.items()
        }
        for row in rows
    ]


def _pseudonym(name: str, number: int, maker: Any) -> str:
    plain = _plain(name)
    if "mail" in plain:
        return f"person{number}@example.org"
    if re.search(r"phone|mobile|(^|_)tel($|_)|fax", plain):
        return str(maker.person.telephone())
    if re.search(r"address|street", plain):
        return str(maker.address.address())
    if re.search(r"first_?name|given_?name", plain):
        return str(maker.person.first_name())
    if "name" in plain and "user" not in plain:
        return str(maker.person.full_name())
    return str(number)


def _like(value: Any, pseudonym: str) -> Any:
    return int(pseudonym) if isinstance(value, int) and pseudonym.isdigit() else pseudonym


def _coarsened(rows: list[Row], quasi: Sequence[str], k: int) -> tuple[list[Row], dict[str, int]]:
    levels = dict.fromkeys(quasi, 0)
    given = rows
    while quasi:
        classes = _classes(given, quasi)
        rare = sum(size for size in classes.values() if size < k)
        if rare <= _SUPPRESSED * len(rows) or all(level == _LEVELS for level in levels.values()):
            break
        distinct = {n: len({_text(row.get(n)) for row in given}) for n in quasi if levels[n] < _LEVELS}
        widest = max(distinct, key=lambda name: (distinct[name], name))
        levels[widest] += 1
        given = [{**row, **{n: _coarse(row.get(n), levels[n]) for n in quasi}} for row in rows]
    classes = _classes(given, quasi)
    hidden = dict.fromkeys(quasi, _GONE)
    return [{**row, **hidden} if quasi and classes[_of(row, quasi)] < k else row for row in given], levels


def _coarse(value: Any, level: int) -> Any:
    """A value less precisely: ranges of numbers, months to decades, beginnings of codes, then nothing."""
    if level == 0 or _blank(value):
        return value
    if level == _LEVELS:
        return _GONE
    text = _text(value)
    if date := _DATE.match(text):
        decade = f"{date[1][:3]}0s"
        return (f"{date[1]}-{date[2]}", date[1], decade, f"{date[1][:2]}00s")[level - 1]
    if re.fullmatch(r"-?\d{1,3}(\.\d+)?", text):
        width = (5, 10, 20, 50)[level - 1]
        low = int(float(text)) // width * width
        return f"{low}-{low + width - 1}"
    if any(character.isdigit() for character in text):
        return text[: max(1, len(text) - level)] + _GONE
    return value if level <= _LEVELS // 2 else _GONE


if __name__ == "__main__":
    main()

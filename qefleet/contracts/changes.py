"""What a run in diff mode looks at: the lines that changed since the base."""

from __future__ import annotations

from pydantic import ConfigDict, RootModel

LineRange = tuple[int, int]
"""First and last line, both included, counted from 1."""


class Changes(RootModel[dict[str, list[LineRange]]]):
    """Changed lines by file, as JSON `{"pkg/a.py": [[3, 5], [9, 9]]}`.

    Lines are those of the newer version; a file of which lines were only taken away has none.
    """

    model_config = ConfigDict(frozen=True)

    def lines(self, file: str) -> set[int]:
        """The changed lines of a file, relative to the project."""
        return {line for first, last in self.root.get(file, []) for line in range(first, last + 1)}

    def touch(self, file: str, first: int, last: int) -> bool:
        """Whether a line from `first` to `last` has changed."""
        return any(start <= last and first <= end for start, end in self.root.get(file, []))

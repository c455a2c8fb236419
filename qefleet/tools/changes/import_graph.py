"""Who imports whom in a project: packages by grimp, tests and single modules by their syntax trees.

grimp reads packages only; test folders and modules without a package are what it can't see.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from qefleet.tools.ground import Ground
from qefleet.tools.program import Tool, ToolReport, run_tool
from qefleet.tools.project import Layout, read_layout
from qefleet.tools.source_tree import read_source

GRIMP = Tool(name="grimp", inside="qe_import_graph")


@dataclass(frozen=True)
class ImportGraph:
    """Imports between files of a project, by their paths."""

    imports: Mapping[str, frozenset[str]]
    """By file, what it imports, packages above included: their `__init__.py` is executed too."""

    def importers(self, path: str) -> set[str]:
        """Files that import this one themselves."""
        return {file for file, imported in self.imports.items() if path in imported}

    def all_importers(self, path: str) -> set[str]:
        """Files that import this one themselves or through others; without it."""
        found, new = set[str](), {path}
        while new:
            new = {file for each in new for file in self.importers(each)} - found - {path}
            found |= new
        return found


async def read_imports(ground: Ground) -> ToolReport[ImportGraph]:
    """The import graph of a project; without a value where grimp could not read its packages."""
    layout = read_layout(ground.project)
    files = _python_files(ground.project)
    named = _named(files, layout)
    packages = sorted({PurePosixPath(s).name for s in layout.sources if (ground.project / s).is_dir()})
    roots = [f"/src/{root}".removesuffix("/.") for root in layout.import_roots]
    return await run_tool(
        ground,
        GRIMP,
        [json.dumps({"packages": packages, "roots": roots})],
        report="imports.json",
        read=lambda content: _graph(json.loads(content)["edges"], ground.project, files, named, layout),
    )


def _graph(
    edges: Iterable[tuple[str, str]],
    project: Path,
    files: list[str],
    named: Mapping[str, set[str]],
    layout: Layout,
) -> ImportGraph:
    imports: dict[str, set[str]] = {file: set() for file in files}
    for importer, imported in edges:
        for file in named.get(importer, ()):
            imports[file] |= _with_packages(imported, named)
    inside = tuple(f"{source}/" for source in layout.sources)
    for file in files:
        if not file.startswith(inside) or file.startswith(tuple(f"{f}/" for f in layout.tests_inside)):
            for name in _imported(project / file, file):
                imports[file] |= _with_packages(name, named)
    return ImportGraph({file: frozenset(found - {file}) for file, found in imports.items()})


def _with_packages(name: str, named: Mapping[str, set[str]]) -> set[str]:
    """Files of a module and of the packages around it; of a name within a module, the module's."""
    parts = name.split(".")
    dotted = (".".join(parts[:length]) for length in range(1, len(parts) + 1))
    return {file for each in dotted for file in named.get(each, ())}


def _imported(path: Path, file: str) -> Iterator[str]:
    """Dotted names that a file imports, anywhere in it."""
    tree = read_source(path)
    package = PurePosixPath(file).parent.parts
    for node in ast.walk(tree.module) if tree else ():
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            around = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join([*around, *([node.module] if node.module else [])])
            yield from (f"{module}.{alias.name}" if module else alias.name for alias in node.names)


def _python_files(project: Path) -> list[str]:
    return sorted(
        path.relative_to(project).as_posix()
        for path in project.rglob("*.py")
        if path.is_file() and not path.is_symlink()
    )


def _named(files: Iterable[str], layout: Layout) -> dict[str, set[str]]:
    """Files by the names under which they can be imported.

    From the import roots, from the project's folder, and from its own, which pytest puts on the path.
    """
    named: dict[str, set[str]] = {}
    for file in files:
        path = PurePosixPath(file).with_suffix("")
        parts = path.parts[:-1] if path.name == "__init__" else path.parts
        names = {layout.module_of(file), ".".join(parts), path.name if path.name != "__init__" else None}
        for name in filter(None, names):
            named.setdefault(name, set()).add(file)
    return named

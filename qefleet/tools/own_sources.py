"""A project's own sources: what its users run, without its tests."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from qefleet.tools.project import read_layout
from qefleet.workspace.archive import safe_path


@dataclass(frozen=True)
class OwnSources:
    """Which of a project's files are its own sources, as tools are told."""

    paths: tuple[str, ...]
    """Folders of packages and files of modules, relative to the project; none where no package was found."""
    without: tuple[str, ...]
    """Folders of tests inside the packages."""
    import_roots: tuple[str, ...]

    def has(self, path: str) -> bool:
        """Whether a file is one of them."""
        return safe_path(path) and _within(path, self.paths) and not _within(path, self.without)


def _within(path: str, places: tuple[str, ...]) -> bool:
    return any(path == place or path.startswith(f"{place}/") for place in places)


def read_lines(project: Path, path: str) -> list[str]:
    """Lines of a source file that a tool has named; none for what isn't a file within the project.

    Args:
        project: The project's folder.
        path: As code in the sandbox may have written it.
    """
    file = project / path
    if not safe_path(path) or not file.resolve().is_relative_to(project.resolve()):
        return []
    try:
        return file.read_text("utf-8", "replace").split("\n")
    except OSError:
        return []


def own_sources(project: Path) -> OwnSources:
    """Find a project's own sources by its layout.

    Args:
        project: The project's folder; nothing in it is executed.
    """
    layout = read_layout(project)
    return OwnSources(
        paths=tuple(sorted(_path(project, name, layout.import_roots) for name in layout.sources)),
        without=layout.tests_inside,
        import_roots=layout.import_roots,
    )


def _path(project: Path, name: str, roots: tuple[str, ...]) -> str:
    """Where a source is: a layout names packages by their folder, and modules as they are imported."""
    if (project / name).is_dir():
        return name
    files = [PurePosixPath(root, f"{name}.py").as_posix() for root in roots]
    return next((file for file in files if (project / file).is_file()), files[0])

"""The entry point: bound as `__main__.py` beside this package, so that the rest comes compiled."""

from inside.launch import main  # pyright: ignore[reportMissingImports, reportUnknownVariableType]  its place in there

main()

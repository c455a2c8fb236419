"""The command line, `qe …` and `temporal qe …`.

One module a group of commands. They import what they need when they run: `qe --help` must not wait for
Temporal's, Pydantic's or Postgres' libraries.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of `qe` and `temporal-qe`; ends the process with the command's exit code.

    0 means success (a run's decision is GO or CONDITIONAL, or nothing gates), 1 NO_GO or a failed check,
    2 unusable input or settings, 3 a failed run, 130 Ctrl-C.
    """
    from worker.cli.app import app
    from worker.cli.output import explain

    try:
        app(arguments, prog_name="qe")
    except Exception as error:  # noqa: BLE001 - the last line of defence: our errors in words, others as they are
        sys.exit(explain(error))

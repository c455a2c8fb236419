"""The command line, `qe …` and `temporal qe …`.

One module a group of commands. They import what they need when they run: `qe --help` must not wait for
Temporal's, Pydantic's or Postgres' libraries.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import NoReturn


def main() -> NoReturn:
    """Entry point of `qe` and `temporal-qe`; ends the process with the command's exit code."""
    code = execute()
    sys.stdout.flush()
    sys.stderr.flush()
    # Not sys.exit: a call to Temporal that was given up while in flight (its server was away, or the answer
    # came from elsewhere) keeps the SDK's runtime, and with it the interpreter, from ever ending.
    os._exit(code)


def execute(arguments: Sequence[str] | None = None) -> int:
    """Run one command; its exit code.

    0 means success (a run's decision is GO or CONDITIONAL, or nothing gates), 1 NO_GO or a failed check,
    2 unusable input or settings, 3 a failed run, 130 Ctrl-C.

    Args:
        arguments: Without the program's name; the process's own when None.
    """
    from worker.cli.app import app
    from worker.cli.output import FAILED, INTERRUPTED, explain

    try:
        app(arguments, prog_name="qe")
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else (FAILED if ended.code else 0)
    except KeyboardInterrupt:
        return INTERRUPTED
    except Exception as error:  # noqa: BLE001 - the last line of defence: our errors in words, others with their trace
        return explain(error)
    return 0

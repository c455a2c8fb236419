"""`qe doctor`: is everything there that a run needs, and if not, how is it mended?"""

from __future__ import annotations

import asyncio

import typer

from worker.cli.output import NO_GO, AsJson, print_json, stdout

EXAMPLES = "[bold]Examples[/]\n\nqe doctor\n\nqe doctor --json"

_MARKS = {"ok": "[green]✓[/]", "info": "[yellow]·[/]", "broken": "[red]✗[/]"}


def doctor(as_json: AsJson = False) -> None:
    """Try each part that a run needs, and say how to mend what doesn't work. Exits 1 if anything is."""
    from rich.markup import escape

    from worker.cli.checks import check_all
    from worker.settings import Settings

    findings = asyncio.run(check_all(Settings.load()))
    broken = [finding for finding in findings if finding.status == "broken"]
    if as_json:
        print_json({"ok": not broken, "checks": findings})
    else:
        console = stdout()
        for finding in findings:
            console.print(
                f"{_MARKS[finding.status]} {finding.name:<16} {escape(finding.found)}", soft_wrap=True
            )
            if finding.mend:
                console.print(f"  {'':<16} → {escape(finding.mend)}", soft_wrap=True)
        console.print(f"[bold red]{len(broken)} to mend[/]" if broken else "[bold green]all is well[/]")
    if broken:
        raise typer.Exit(NO_GO)

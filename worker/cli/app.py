"""All commands, by name."""

from __future__ import annotations

import typer

from worker.cli import agents, calls, cost, doctor, learning, memory, processes, replay, report, run, up

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="A fleet of quality-engineering agents that runs as durable Temporal workflows. "
    "The same commands are there as [bold]temporal qe …[/].",
    epilog="[bold]Examples[/]\n\n"
    "qe run pipeline .\n\n"
    "qe run pipeline pypi:tabulate==0.10.0 --model local\n\n"
    "qe up\n\n"
    "qe doctor",
)

app.command("up", epilog=up.EXAMPLES)(up.up)
app.command("run", epilog=run.EXAMPLES)(run.run)
app.command("watch", epilog=run.WATCH_EXAMPLES)(run.watch)
app.command("doctor", epilog=doctor.EXAMPLES)(doctor.doctor)
app.add_typer(agents.app, name="agents")
app.command("report", epilog=report.EXAMPLES)(report.report)
app.command("calls", epilog=calls.EXAMPLES)(calls.calls)
app.command("cost", epilog=cost.EXAMPLES)(cost.cost)
app.add_typer(learning.app, name="learning")
app.add_typer(memory.app, name="memory")
app.command("replay", epilog=replay.EXAMPLES)(replay.replay)
app.command("worker", epilog=processes.WORKER_EXAMPLES)(processes.worker)
app.command("gateway", epilog=processes.GATEWAY_EXAMPLES)(processes.gateway)
app.command("migrate", epilog=processes.MIGRATE_EXAMPLES)(processes.migrate)

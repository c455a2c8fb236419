"""`qe run`: start a run, watch it, tell what came of it."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from worker.cli.output import AsJson

if TYPE_CHECKING:
    from qefleet.contracts.flows import FlowInput
    from qefleet.contracts.runs import RunInput

EXAMPLES = (
    "[bold]Examples[/]\n\n"
    "qe run release .\n\n"
    "qe run pipeline .\n\n"
    "qe run pipeline pypi:tabulate==0.10.0 --model local --report ./out\n\n"
    "qe run pipeline git+https://example.org/team/project@main --budget 2.50 --json\n\n"
    "qe run pipeline ~/project --threshold line_percent_min=80 --apply\n\n"
    "qe run pipeline . --base origin/main --report ./out\n\n"
    "qe run flow . --flow canonical\n\n"
    "qe run parallel . --agents test-executor,coverage-analyzer\n\n"
    'qe run parallel-expansion . --input \'{"over": {"files": "src/**/*.py"}}\'\n\n'
    "qe run --attach qe-project-1a2b3c\n\n"
    "[bold]Exit codes[/]: 0 GO or CONDITIONAL, or nothing gates; 1 NO_GO; 2 unusable input; "
    "3 the run failed; 130 left by Ctrl-C."
)


def run(
    pattern: Annotated[
        str | None,
        typer.Argument(
            help="release, pipeline, parallel, fan-out-fan-in, parallel-expansion, conditional, hierarchical "
            "or flow.",
            show_default=False,
        ),
    ] = None,
    target: Annotated[
        str | None,
        typer.Argument(help="A folder, git+https://…@ref, or pypi:name==version.", show_default=False),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(help="provider/name, local or none; QE_MODEL without it.", show_default=False),
    ] = None,
    agents: Annotated[
        str | None, typer.Option(help="Comma-separated ids, see `qe agents`.", show_default=False)
    ] = None,
    flow: Annotated[
        str | None, typer.Option(help="For flow: a flow that ships, such as canonical.", show_default=False)
    ] = None,
    input_json: Annotated[
        str | None, typer.Option("--input", help="The whole input as JSON, or @FILE; options go over it.")
    ] = None,
    policy: Annotated[
        str | None,
        typer.Option(
            help="How tests are come by: learned, off, or one way everywhere, such as doctest or direct; "
            "QE_LEARNING without it.",
            show_default=False,
        ),
    ] = None,
    budget: Annotated[
        float | None, typer.Option(help="USD that its model calls may cost.", show_default=False)
    ] = None,
    threshold: Annotated[
        list[str] | None,
        typer.Option(help="name=value for the gate, such as line_percent_min=80; repeatable."),
    ] = None,
    base: Annotated[
        str | None,
        typer.Option(
            metavar="REF",
            help="Diff mode: gate what has changed since the target left this branch, tag or commit.",
            show_default=False,
        ),
    ] = None,
    ci: Annotated[
        bool | None,
        typer.Option(
            "--ci/--no-ci",
            help="Take the workflow's id from repository and commit, so that a second run of the same "
            "attaches to the first; on in GitHub Actions and GitLab CI.",
            show_default=False,
        ),
    ] = None,
    workflow_id: Annotated[
        str | None, typer.Option("--id", help="The workflow's id; a new one without it.", show_default=False)
    ] = None,
    attach: Annotated[
        str | None,
        typer.Option(help="Watch the run with this id instead of starting one.", show_default=False),
    ] = None,
    apply: Annotated[
        bool, typer.Option("--apply", help="Write what was kept into the target folder.")
    ] = False,
    report: Annotated[
        Path | None,
        typer.Option(
            help="Folder for report (HTML, Markdown), patch, JUnit, SARIF and Cobertura; "
            "one in the data folder without it."
        ),
    ] = None,
    detach: Annotated[bool, typer.Option("--detach", help="Start it and return; needs `qe up`.")] = False,
    demo: Annotated[
        bool,
        typer.Option("--demo", help="Bound its time, and go on without a model where `local` can't be had."),
    ] = False,
    unsafe_no_sandbox: Annotated[
        bool,
        typer.Option("--unsafe-no-sandbox", help="Run untrusted code unconfined; recorded in the result."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Run a pattern on a target, watch it, and exit by its decision.

    Connects to your Temporal (TEMPORAL_ADDRESS or profile), to a running `qe up`, or starts the services for
    the time of the run. Ctrl-C never loses work: the run goes on where it was, see --attach.
    """
    from qefleet.errors import UsageError
    from worker.cli.github import errors_told
    from worker.cli.inputs import PATTERNS, build_input, new_workflow_id, parse_json
    from worker.cli.repository import same_run_id
    from worker.cli.run_session import carry_out
    from worker.cli.wish import Wish
    from worker.settings import Settings, check_model, nobody_answers, resolve_model

    settings = Settings.load()
    if unsafe_no_sandbox:
        settings = replace(
            settings,
            unsafe_no_sandbox=True,
            environment={**settings.environment, "QE_UNSAFE_NO_SANDBOX": "1"},
        )
    with errors_told(settings.ci, as_json=as_json):
        run_input: RunInput | FlowInput | None = None
        if attach is None:
            if pattern not in PATTERNS:
                raise UsageError(f"PATTERN: one of {', '.join(PATTERNS)}, such as `qe run pipeline .`")
            whole = parse_json(input_json, name="--input") if input_json else None
            if model is not None:
                check_model(model, name="--model")
            run_input = build_input(
                PATTERNS[pattern],
                base=whole,
                target=target,
                model=model,
                agents=agents,
                flow=flow,
                policy=policy,
                budget_usd=budget,
                thresholds=threshold or [],
                demo=demo,
                since=base,
            )
            if apply and not (run_input.target and run_input.target.kind == "path"):
                raise UsageError(
                    "--apply: only a folder can be written to; --report keeps the patch of other targets"
                )
        elif apply or detach or base:
            raise UsageError("--attach: goes with --report and --json only")
        chosen = resolve_model(settings, asked=run_input.model if run_input else None)
        same = None
        in_ci = settings.ci.system is not None if ci is None else ci
        if in_ci and run_input and nobody_answers(settings) and "approval" not in run_input.model_fields_set:
            run_input = run_input.model_copy(update={"approval": None})
        if in_ci and run_input and pattern and workflow_id is None:
            same = asyncio.run(same_run_id(pattern, run_input, model=chosen.model))
        location = run_input.target.location if run_input and run_input.target else ""
        wish = Wish(
            pattern=PATTERNS.get(pattern or "", ""),
            run_input=run_input,
            workflow_id=attach or workflow_id or same or new_workflow_id(location),
            same=same is not None,
            detach=detach,
            as_json=as_json,
            apply_to=Path(location) if apply else None,
            report=report,
            demo=demo,
        )
        raise typer.Exit(asyncio.run(carry_out(settings, chosen, wish)))


WATCH_EXAMPLES = "[bold]Examples[/]\n\nqe watch qe-project-1a2b3c\n\nqe watch nightly-2026-01-31 --json"


def watch(
    workflow_id: Annotated[str, typer.Argument(help="The run's workflow id.")],
    report: Annotated[
        Path | None, typer.Option(help="Folder for report and patch; one in the data folder without it.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Watch a run to its end, whoever started it, and exit by its decision; the same as `qe run --attach`."""
    from worker.cli.run_session import carry_out
    from worker.cli.wish import Wish
    from worker.settings import Settings, resolve_model

    settings = Settings.load()
    wish = Wish(
        pattern="",
        run_input=None,
        workflow_id=workflow_id,
        same=False,
        detach=False,
        as_json=as_json,
        apply_to=None,
        report=report,
        demo=False,
    )
    raise typer.Exit(asyncio.run(carry_out(settings, resolve_model(settings, asked=None), wish)))

"""A run's report, in Markdown, from what was recorded; and its patch, all agents' changes in one."""

from __future__ import annotations

from collections.abc import Sequence

from qefleet.contracts.base import Digest
from qefleet.contracts.gate import GateDecision
from qefleet.contracts.generation import GenerationDetails
from qefleet.contracts.measured import ArtifactRef, Measured
from qefleet.contracts.runs import AgentResult, Usage
from qefleet.contracts.steps import Closed, CloseRun
from qefleet.fleet.store import RunEntry
from qefleet.memory.artifacts import Artifacts
from qefleet.workspace.patches import combine_patches


async def write_report(
    request: CloseRun,
    *,
    entry: RunEntry,
    results: Sequence[AgentResult],
    patches: Sequence[Digest],
    usage: Usage,
    artifacts: Artifacts,
) -> Closed:
    """Write a run's report and patch as artifacts.

    Args:
        request: The run, its decision and its notes.
        entry: The run's row.
        results: Its recorded steps, in order.
        patches: What its steps and their items propose to change, in order.
        usage: What its model calls cost in all.
        artifacts: Where both are kept.
    """
    patch: ArtifactRef | None = None
    if patches:
        combined = combine_patches([await artifacts.get(digest) for digest in patches])
        patch = await artifacts.put(combined, name="run.patch", media_type="text/x-diff")
    text = render(request, entry=entry, results=results, usage=usage, patch=patch)
    report = await artifacts.put(text.encode(), name="report.md", media_type="text/markdown")
    return Closed(
        report=report,
        patch=patch,
        usage=usage,
        approvals=request.approvals,
        evaluations=[str(evaluation) for evaluation in request.evaluations],
    )


def render(
    request: CloseRun,
    *,
    entry: RunEntry,
    results: Sequence[AgentResult],
    usage: Usage,
    patch: ArtifactRef | None,
) -> str:
    """The report as Markdown."""
    decision = _ending(request)
    snapshot, environment = entry.snapshot, entry.environment
    lines = [f"# {entry.plan.target}: {decision}", ""]
    if snapshot:
        named = f"{snapshot.name} {snapshot.version or ''}".strip()
        lines.append(f"- Snapshot `{snapshot.digest[:12]}` of {named}, {snapshot.files} files")
    if environment:
        lines.append(f"- Python {environment.python}, {environment.packages} packages")
        lines += [f"- {note}" for note in environment.notes]
    lines.append(f"- Run `{entry.workflow_id}` of {entry.pattern}, model `{entry.plan.model}`")
    lines.append(f"- {_cost(usage)}")
    lines += [f"- {note}" for note in request.notes]
    lines += [f"- Condition {evaluation}" for evaluation in request.evaluations]
    lines += [
        f"- {said.step} {said.verdict} by {said.by} at {said.answered_at:%Y-%m-%d %H:%M} UTC: {said.why}"
        for said in request.approvals
    ]
    for result in results:
        lines += ["", f"## {result.step}: {result.status}", "", result.headline]
        if result.error:
            lines += ["", f"**{result.error.type}**: {result.error.message}"]
        lines += [*_metrics(result), *_details(result), *_judged(result), *_tools(result)]
        lines += [f"- {note}" for note in result.notes]
    if patch:
        lines += ["", "## Patch", "", f"`{patch.name}`, {patch.size_bytes} bytes, sha256 `{patch.digest}`"]
    return "\n".join(lines).rstrip() + "\n"


def _ending(request: CloseRun) -> str:
    if request.cancelled:
        return "cancelled"
    if request.failed:
        return "failed"
    return request.decision.value if request.decision else "no gate"


def _cost(usage: Usage) -> str:
    cost = "unknown cost (no price for this model)" if usage.cost_usd is None else f"${usage.cost_usd:.4f}"
    tokens = f"{usage.input_tokens} + {usage.output_tokens} tokens"
    return (
        f"{usage.calls} model calls, {usage.replayed_calls} answers taken from the ledger, {tokens}, {cost}"
    )


def _metrics(result: AgentResult) -> list[str]:
    if not result.measured.metrics:
        return []
    lines = ["", "| measured | value | tool |", "|---|---:|---|"]
    for name, metric in sorted(result.measured.metrics.items()):
        if isinstance(metric, Measured):
            tool = result.measured.tools[metric.tool]
            lines.append(f"| {name} | {metric.value:g} {metric.unit} | {tool.tool} {tool.version} |")
        else:
            lines.append(f"| {name} | unmeasured | {metric.reason} |")
    return lines


def _details(result: AgentResult) -> list[str]:
    details = result.measured.details
    if not details:  # the step failed before it measured, or it is a sum over items
        return []
    match result.agent:
        case "quality-gate":
            gate = GateDecision.model_validate(details)
            rows = [
                f"| {rule.rule} | {'passed' if rule.passed else 'failed'} | {rule.severity} | {rule.reason} |"
                for rule in gate.rules
            ]
            rows += [f"| {rule} | left out | | {why} |" for rule, why in gate.left_out.items()]
            return ["", "| rule | | | why |", "|---|---|---|---|", *rows]
        case "test-generator":
            generation = GenerationDetails.model_validate(details)
            rows = [
                f"| `{verdict.test}` | {verdict.segment} | "
                + (
                    f"kept, +{verdict.gained_lines} lines, +{verdict.gained_branches} branches"
                    if verdict.kept
                    else f"{verdict.filter}: {_cell(verdict.reason)}"
                )
                + " |"
                for verdict in generation.verdicts
            ]
            return ["", "| proposed test | for | verdict |", "|---|---|---|", *rows] if rows else []
        case _:
            return []


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())[:200]


def _judged(result: AgentResult) -> list[str]:
    if not result.judged:
        return []
    return [
        "",
        "Judged by the model:",
        "",
        *(f"- **{key}**: {value}" for key, value in result.judged.items()),
    ]


def _tools(result: AgentResult) -> list[str]:
    lines = ["", "<details><summary>tool runs</summary>", ""]
    for tool in result.measured.tools:
        artifact = f", {tool.artifact.name} sha256 `{tool.artifact.digest[:12]}`" if tool.artifact else ""
        lines.append(f"- `{' '.join(tool.argv)}` exit {tool.exit_code}, {tool.duration_s:.1f} s{artifact}")
    return [*lines, "", "</details>"] if result.measured.tools else []

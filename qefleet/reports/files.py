"""All report files of a run, by name."""

from __future__ import annotations

from qefleet.reports.cobertura import cobertura
from qefleet.reports.evidence import Evidence
from qefleet.reports.findings import findings, gate_of
from qefleet.reports.html import html
from qefleet.reports.junit import junit
from qefleet.reports.sarif import sarif


def report_files(evidence: Evidence) -> dict[str, bytes]:
    """The files that a run gives: those for which there is nothing to tell are left out."""
    result = evidence.result
    succeeded = all(step.status != "failed" for step in result.steps)
    files = {
        "report.html": html(evidence),
        "report.md": evidence.report,
        "run.patch": evidence.patch,
        "result.json": (result.model_dump_json(indent=2) + "\n").encode(),
        "junit.xml": junit(evidence.junit, gate=gate_of(evidence), steps=result.steps),
        "results.sarif": sarif(findings(evidence), succeeded=succeeded),
        "cobertura.xml": cobertura(evidence.coverage_xml, folder=evidence.folder),
    }
    return {name: content for name, content in files.items() if content is not None}

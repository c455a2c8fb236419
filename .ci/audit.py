"""Audits the locked dependencies against the advisory service.

Exit code 1 when one is vulnerable. Where the service can't be asked it says so, and never that all is fine:
pip-audit itself says that nothing is vulnerable when it could not look anything up.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any


def main() -> int:
    """Run pip-audit over `requirements.lock` and say what it really found."""
    program = Path(sys.executable).with_name("pip-audit")
    command = [program, "--requirement", "requirements.lock", "--require-hashes", "--disable-pip"]
    command += ["--format", "json", "--progress-spinner", "off"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        dependencies: list[dict[str, Any]] = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError):
        lines = done.stderr.strip().splitlines()
        print(f"dependencies NOT AUDITED: {lines[-1][:200] if lines else 'pip-audit gave no report'}")
        return 0
    vulnerable = [entry for entry in dependencies if entry.get("vulns")]
    unknown = [entry["name"] for entry in dependencies if "skip_reason" in entry]
    for entry in vulnerable:
        ids = ", ".join(vulnerability["id"] for vulnerability in entry["vulns"])
        print(f"VULNERABLE: {entry['name']} {entry['version']}: {ids}")
    if unknown:
        named = ", ".join(unknown[:3])
        print(f"dependencies NOT AUDITED: {len(unknown)} of {len(dependencies)}, such as {named}")
    elif not vulnerable:
        print(f"{len(dependencies)} dependencies audited, none is known to be vulnerable")
    return 1 if vulnerable else 0


if __name__ == "__main__":
    sys.exit(main())

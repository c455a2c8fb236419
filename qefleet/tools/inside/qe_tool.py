"""Run a tool as a module of its own environment, its standard output in a file: it is a report, not a log."""

import json
import subprocess
import sys
from pathlib import Path

spec = json.loads(Path("/qe/spec.json").read_text("utf-8"))
with Path("/out/stdout").open("wb") as stdout:
    ended = subprocess.run([*spec["argv"]], stdout=stdout, check=False)
sys.exit(ended.returncode if ended.returncode >= 0 else 128 - ended.returncode)

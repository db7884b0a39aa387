"""`hlas test` and `hlas check`: the same tools with the same arguments for everybody."""

import subprocess
import sys
from collections.abc import Sequence

from hlas.paths import project_root

CHECKS = (
    ("ruff", "check", "src", "tests", "tools"),
    ("ruff", "format", "--check", "src", "tests", "tools"),
    ("mypy",),
)


def run_tests(arguments: Sequence[str]) -> int:
    """Run pytest over tests/; returns its exit status."""
    return _run([sys.executable, "-m", "pytest", *arguments])


def run_checks() -> int:
    """Run every check, the later ones also when an earlier one fails; 0 if all are clean."""
    commands = [[sys.executable, "-m", *command] for command in CHECKS]
    commands.append([sys.executable, "-c", "from hlas.cli import main; main()", "validate"])
    statuses = [_run(command) for command in commands]
    return 1 if any(statuses) else 0


def _run(command: list[str]) -> int:
    shown = " ".join(command[2:] if command[1] == "-m" else ["hlas", *command[3:]])
    print(f"$ {shown}", flush=True)
    return subprocess.run(command, cwd=project_root(), check=False).returncode

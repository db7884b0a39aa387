"""What stands for SLURM where the launch files of tools/slurm are tested: srun and scontrol, first in PATH."""

import os
import sys
from pathlib import Path

from hlas.paths import project_root

FOLDER = project_root() / "tools" / "slurm"
JOB = "1234"

# two tasks on this machine; passes SIGTERM on to them, and ends with the highest status, as srun does
SRUN = f"""#!{sys.executable}
import os, signal, subprocess, sys

tasks = []
signal.signal(signal.SIGTERM, lambda *_: [task.terminate() for task in tasks])
command = sys.argv[sys.argv.index("--kill-on-bad-exit=1") + 1 :]
for rank in "01":
    place = {{"SLURM_STEP_NUM_TASKS": "2", "SLURM_PROCID": rank, "SLURM_LOCALID": rank}}
    tasks.append(subprocess.Popen(command, env=os.environ | place))
codes = [task.wait() for task in tasks]
sys.exit(max(code if code >= 0 else 128 - code for code in codes))
"""
# so many nodes that what lists them is still writing when the first has been read
SCONTROL = """#!/usr/bin/env bash
case $1 in
  show) [ "$2 $3" = "hostnames localhost,other" ] && echo localhost && seq 20000 ;;
  *) echo "scontrol $*" ;;
esac
"""


def write_program(path: Path, text: str) -> None:
    """An executable file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    path.chmod(0o755)


def slurm(folder: Path) -> dict[str, str]:
    """Write the programs into `folder`; the variables that sbatch gives a script which is submitted here."""
    write_program(folder / "srun", SRUN)
    write_program(folder / "scontrol", SCONTROL)
    path = f"{folder}{os.pathsep}{os.environ['PATH']}"
    job = {"SLURM_JOB_ID": JOB, "SLURM_JOB_NODELIST": "localhost,other", "SLURM_SUBMIT_DIR": str(project_root())}
    return {"PATH": path, **job}

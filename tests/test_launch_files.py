"""The launch files of tools/slurm: what they start, when a job is queued again. test_workers.py trains with them."""

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from launch_kit import FOLDER, JOB, slurm, write_program

# stands for hlas: says how it was started; then ends at once, or when it is told to
HLAS = f"""#!{sys.executable}
import os, signal, sys

signal.pthread_sigmask(signal.SIG_BLOCK, {{signal.SIGTERM}})
rank = os.environ["SLURM_PROCID"]
os.write(1, (" ".join([rank, os.environ["MASTER_ADDR"], *sys.argv[1:]]) + "\\n").encode())  # whole, between the others'
if "--wait" in sys.argv:
    signal.sigwait({{signal.SIGTERM}})
sys.exit(int(sys.argv[-1 - int(rank)]))
"""
ARGUMENTS = "#!/usr/bin/env bash\nprintf '%s\\n' \"$@\"\n"


def submit(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    """train.sbatch as a job of two tasks, in which a program stands for hlas."""
    write_program(folder / "venv/bin/hlas", HLAS)
    command = [str(FOLDER / "train.sbatch"), "recipes/x.yaml", "train", *arguments]
    environ = os.environ | slurm(folder / "slurm") | {"HLAS_VENV": str(folder / "venv")}
    return subprocess.Popen(["bash", *command], stdout=subprocess.PIPE, text=True, env=environ)


@pytest.mark.parametrize(("codes", "ended"), [((0, 0), 0), ((2, 0), 2), ((0, 1), 1), ((130, 130), 130)])
def test_a_job_that_ends_by_itself_or_is_cancelled_is_not_queued_again(
    tmp_path: Path, codes: tuple[int, int], ended: int
) -> None:
    job = submit(tmp_path, "--set", "train.seed=1", *map(str, codes))
    said, _ = job.communicate()
    assert job.returncode == ended
    told = f"localhost run recipes/x.yaml --only train --set train.seed=1 {codes[0]} {codes[1]}"
    assert sorted(said.splitlines()) == [f"0 {told}", f"1 {told}"]


@pytest.mark.parametrize(
    ("codes", "requeued"), [((130, 130), True), ((130, 2), True), ((137, 130), True), ((0, 0), False)]
)
def test_a_job_whose_time_is_over_is_queued_again_unless_it_is_done(
    tmp_path: Path, codes: tuple[int, int], requeued: bool
) -> None:
    """130 is how hlas says that it was interrupted; a task may have been killed as it waited for the other."""
    job = submit(tmp_path, "--wait", *map(str, codes))
    assert job.stdout is not None
    assert sorted(job.stdout.readline()[0] for _ in range(2)) == ["0", "1"]  # both are there
    job.send_signal(signal.SIGUSR1)
    said, _ = job.communicate()
    assert said == (f"scontrol requeue {JOB}\n" if requeued else "")
    assert job.returncode == 0


def torchrun(folder: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    write_program(folder / "venv/bin/torchrun", ARGUMENTS)
    write_program(folder / "gpus/nvidia-smi", "#!/usr/bin/env bash\nprintf 'GPU 0\\nGPU 1\\nGPU 2\\n'\n")
    path = f"{folder}/gpus{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        ["bash", str(FOLDER / "torchrun.sh"), "recipes/x.yaml", "train", "--workers", "2"],
        env=os.environ | {"HLAS_VENV": f"{folder}/venv", "PATH": path, **environ},
        capture_output=True,
        text=True,
        check=False,
    )


def test_torchrun_starts_a_process_for_each_gpu(tmp_path: Path) -> None:
    hlas = f"--max-restarts=0 --no-python {tmp_path}/venv/bin/hlas run recipes/x.yaml --only train --workers 2".split()
    assert torchrun(tmp_path).stdout.split() == ["--standalone", "--nnodes=1", "--nproc-per-node=3", *hlas]
    several = torchrun(tmp_path, NODES="2", HEAD="gpu1:29500", GPUS="8")
    meeting = ["--rdzv-backend=c10d", "--rdzv-endpoint=gpu1:29500", "--rdzv-id=recipes/x.yaml-train"]
    assert several.stdout.split() == [*meeting, "--nnodes=2", "--nproc-per-node=8", *hlas]
    without = torchrun(tmp_path, NODES="2")
    assert without.returncode != 0
    assert "HEAD: set it to host:port" in without.stderr


@pytest.mark.parametrize("name", ["train.sbatch", "torchrun.sh"])
def test_a_stage_is_asked_for(name: str) -> None:
    done = subprocess.run(["bash", str(FOLDER / name), "x.yaml"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert re.search(r"^usage: .* RECIPE STAGE", done.stderr)


@pytest.mark.skipif(not shutil.which("shellcheck"), reason="shellcheck, a program of the system, is not installed")
@pytest.mark.parametrize("name", ["train.sbatch", "torchrun.sh"])
def test_launch_files_are_clean_bash(name: str) -> None:
    subprocess.run(["shellcheck", str(FOLDER / name)], check=True)

"""Several processes train one model: started by the stage itself, by torchrun, by SLURM; on the CPU, with gloo."""

import io
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from hlas.errors import UserError
from hlas.models.training import workers
from hlas.models.training.workers import start_others, team
from hlas.plan import Planned, Selection, make_plan
from hlas.ranks import Rank, first_host, launched
from hlas.recipe import load_recipe
from hlas.runner import run_recipe
from hlas.store import is_done, partial, read_record
from hlas.tokenizers import stage as tokenizer_stage
from launch_kit import FOLDER, JOB, slurm
from train_kit import Lab

EPOCHS = 12
# nothing in it depends on chance, nor on the other utterances of a batch
MODEL = f"""
model:
  preprocessor:
    _target_: nemo.collections.asr.modules.AudioToMelSpectrogramPreprocessor
    sample_rate: 16000
    features: 16
    window_size: 0.025
    window_stride: 0.01
    dither: 0.0
    pad_to: 0
  encoder:
    _target_: nemo.collections.asr.modules.ConformerEncoder
    feat_in: 16
    feat_out: -1
    n_layers: 1
    d_model: 16
    n_heads: 2
    ff_expansion_factor: 2
    subsampling: striding
    subsampling_factor: 2
    subsampling_conv_channels: 8
    conv_kernel_size: 5
    conv_norm_type: layer_norm
    dropout: 0.0
    dropout_pre_encoder: 0.0
    dropout_emb: 0.0
    dropout_att: 0.0
  decoder: {{_target_: nemo.collections.asr.modules.ConvASRDecoder, feat_in: 16}}
  optim: {{name: sgd, lr: 0.002, momentum: 0.9}}
  train_ds: {{batch_size: 4}}
trainer: {{max_epochs: {EPOCHS}, accelerator: cpu}}
exp_manager: {{checkpoint_callback_params: {{monitor: val_loss}}}}
"""
TWO = ("--set", "train.trainer.devices=2", "--set", "train.model.train_ds.batch_size=2")
HLAS = (sys.executable, "-c", "from hlas.cli import main; main()")
TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "--no-python")


@pytest.fixture(scope="module")
def recipe(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tokenizer and a model on eight utterances of tones."""
    folder = tmp_path_factory.mktemp("together")
    train, dev = (str(lab.split(split).path) for split in ("train", "dev"))
    (folder / "model.yaml").write_text(MODEL, encoding="utf-8")
    stages = {
        "tokenizer": {"spec": "tokenizers/char.yaml", "text": train},
        "train": {"spec": f"{folder}/model.yaml", "train": train, "dev": dev, "tokenizer": "tokenizer"},
    }
    path = folder / "together.yaml"
    path.write_text(yaml.safe_dump({"name": "together", "stages": stages}), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def alone(recipe: Path) -> Planned:
    """The model that one process has trained."""
    finish(start(recipe))
    return planned(recipe)


def start(recipe: Path, *arguments: str, by: Sequence[str] = (), **environ: str) -> subprocess.Popen[str]:
    """`hlas run` as a person starts it, or as the command `by` does."""
    runs = ("--runs", str(recipe.parent / "runs"))
    return popen((*by, *HLAS, "run", str(recipe), *runs, *arguments), environ)


def popen(command: Sequence[str], environ: Mapping[str, str]) -> subprocess.Popen[str]:
    """A command whose output is read."""
    own = os.environ | {"OMP_NUM_THREADS": "1", "TORCH_CPP_LOG_LEVEL": "FATAL", **environ}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=own)


def free_port() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return str(free.getsockname()[1])


def finish(process: subprocess.Popen[str]) -> str:
    """What it says, to its successful end."""
    said, _ = process.communicate()
    assert process.returncode == 0, said
    return said


def planned(recipe: Path, *settings: str) -> Planned:
    return make_plan(load_recipe(recipe, settings[1::2]), recipe.parent / "runs")[-1]


def weights(folder: Path) -> dict[str, Any]:
    import torch

    with tarfile.open(folder / "model.nemo") as archive:
        (name,) = (name for name in archive.getnames() if name.endswith(".ckpt"))
        file = archive.extractfile(name)
        assert file is not None
        return dict(torch.load(io.BytesIO(file.read()), weights_only=True))


def curve(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "curve.jsonl").read_text(encoding="utf-8").splitlines()]


def say_until(process: subprocess.Popen[str], line: str) -> list[str]:
    """What it says, up to a line that begins so."""
    assert process.stdout is not None
    said = []
    for said_now in process.stdout:
        said.append(said_now)
        if said_now.startswith(line):
            return said
    raise AssertionError("".join(said))


def job_told_to_end(recipe: Path, folder: Path) -> None:
    """Two tasks of a SLURM job, which is told in the second epoch that its time is over."""
    environ = {**slurm(folder), "MASTER_PORT": free_port(), "HLAS_VENV": sys.prefix}
    script = ("bash", str(FOLDER / "train.sbatch"), str(recipe), "train", "--runs", str(recipe.parent / "runs"), *TWO)
    job = popen(script, environ)
    said = say_until(job, "epoch 1 of")
    job.send_signal(signal.SIGUSR1)
    rest, _ = job.communicate()
    assert f"scontrol requeue {JOB}\n" in rest, "".join(said) + rest
    assert "interrupted; the same command goes on from here" in rest
    assert job.returncode == 0


def test_two_processes_that_are_ended_and_resumed_give_the_weights_of_one(
    recipe: Path, alone: Planned, tmp_path: Path
) -> None:
    """Told to end as a job of SLURM; then rank 0 is killed, and the other ends by itself; torchrun.sh goes on."""
    two = planned(recipe, *TWO)
    assert {change.rpartition(".")[2] for change in two.changes} == {"devices", "batch_size"}
    last = partial(two.folder) / "checkpoints" / "last.ckpt"

    job_told_to_end(recipe, tmp_path)
    assert last.is_file()

    process = start(recipe, *TWO)
    said = say_until(process, "epoch 4 of")
    process.kill()
    assert process.stdout is not None
    process.stdout.read()  # ends when nobody holds the pipe any more: then the other is gone, too
    assert process.wait() == -signal.SIGKILL, "".join(said)
    assert "goes on after epoch" in "".join(said)
    assert sum(line.startswith("epoch 4 of") for line in said) == 1  # only the first process speaks
    assert last.is_file() and not is_done(two.folder)

    script = ("bash", str(FOLDER / "torchrun.sh"), str(recipe), "train", "--runs", str(recipe.parent / "runs"), *TWO)
    said_then = finish(popen(script, {"GPUS": "2", "HLAS_VENV": sys.prefix}))
    assert "goes on after epoch" in said_then
    assert said_then.count("train: done in") == 1
    assert [read_record(p.folder).summary["processes"] for p in (alone, two)] == [1, 2]
    rows = curve(two.folder)
    assert [row["epoch"] for row in rows] == list(range(EPOCHS))
    for one, both in zip(curve(alone.folder), rows, strict=True):
        assert both["utterances"] == one["utterances"] == 8
        for key in ("train_loss", "dev_loss", "dev_wer", "dev_cer"):
            assert both[key] == pytest.approx(one[key], rel=1e-4)
    assert rows[-1]["train_loss"] < 0.5 * rows[0]["train_loss"]
    expected, found = weights(alone.folder), weights(two.folder)
    assert expected.keys() == found.keys()
    for name, tensor in expected.items():
        np.testing.assert_allclose(found[name].numpy(), tensor.numpy(), rtol=1e-4, atol=1e-5, err_msg=name)


def test_two_processes_train_a_quartznet(recipe: Path) -> None:
    """Its encoder keeps masks as buffers, which the processes share before a step."""
    spec = yaml.safe_load(MODEL)
    block = {"repeat": 1, "kernel": [5], "dilation": [1], "dropout": 0.0, "residual": False, "separable": True}
    spec["model"]["encoder"] = {
        "_target_": "nemo.collections.asr.modules.ConvASREncoder",
        "feat_in": 16,
        "activation": "relu",
        "conv_mask": True,
        "jasper": [{"filters": 16, "stride": [stride], **block} for stride in (2, 1)],
    }
    convolutions = recipe.parent / "convolutions.yaml"
    convolutions.write_text(yaml.safe_dump(spec), encoding="utf-8")
    settings = (*TWO, "--set", f"train.spec={convolutions}", "--set", "train.trainer.max_epochs=1")
    finish(start(recipe, *settings))
    assert read_record(planned(recipe, *settings).folder).summary["processes"] == 2


@pytest.mark.usefixtures("alone")
def test_processes_that_find_the_model_made_leave(recipe: Path) -> None:
    """Started by torchrun, which holds the store, and with srun's variables, where the first process does."""
    assert finish(start(recipe, "--only", "train", by=TORCHRUN)).count("train: made already") == 1
    task = {"SLURM_STEP_NUM_TASKS": "2", "SLURM_STEP_NODELIST": "localhost", "MASTER_PORT": free_port()}
    processes = [start(recipe, "--only", "train", **task, SLURM_PROCID=str(rank)) for rank in (1, 0)]
    others, first = map(finish, processes)
    assert first.startswith("train: made already")
    assert others == ""


def test_torchrun_and_srun_say_which_process_this_is() -> None:
    assert launched({}) is None
    assert launched({"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0"}) is None
    torchrun = {"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "4", "GROUP_RANK": "1"}
    torchrun |= {"MASTER_ADDR": "node7", "MASTER_PORT": "29400", "TORCHELASTIC_USE_AGENT_STORE": "True"}
    assert launched(torchrun) == Rank(5, 8, 1, 4, 1, "node7", 29400, hosted=True)
    srun = {"SLURM_STEP_NUM_TASKS": "8", "SLURM_STEP_NUM_NODES": "2", "SLURM_PROCID": "5", "SLURM_LOCALID": "1"}
    srun |= {"SLURM_NODEID": "1", "SLURM_STEP_NODELIST": "gpu[07-08]", "SLURM_JOB_ID": "1234567", "SLURM_STEP_ID": "2"}
    assert launched(srun) == Rank(5, 8, 1, 4, 1, "gpu07", 15000 + 4569, hosted=False)
    batch_script = {"SLURM_NTASKS": "8", "SLURM_PROCID": "0", "SLURM_JOB_ID": "1"}  # sbatch's own, before any srun
    assert launched(batch_script) is None


@pytest.mark.parametrize(
    ("hosts", "first"),
    [("gpu1", "gpu1"), ("gpu[05-07,12],cpu1", "gpu05"), ("a1,a[2-3]", "a1"), ("rack[1-2]-n[3,5]", "rack1-n3")],
)
def test_first_host(hosts: str, first: str) -> None:
    assert first_host(hosts) == first


def test_a_whole_recipe_is_no_work_for_several_processes(
    recipe: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    loaded = load_recipe(recipe)
    for selection in (Selection(), Selection(only="tokenizer")):
        with pytest.raises(UserError, match="2 processes were started") as raised:
            run_recipe(loaded, tmp_path, selection, workers=1)
        assert raised.value.fix.endswith("together.yaml --only train")
    monkeypatch.setenv("RANK", "1")
    with pytest.raises(SystemExit, match="2"):  # the first process has said why
        run_recipe(loaded, tmp_path, Selection(), workers=1)


@pytest.mark.parametrize(
    ("setting", "problem"),
    [("devices=auto", "devices: 'auto' is not a number"), ("devices=0", "devices: 0"), ("strategy=fsdp", "'fsdp' is")],
)
def test_trainer_keys_that_do_not_fix_the_batch_are_refused(recipe: Path, setting: str, problem: str) -> None:
    with pytest.raises(UserError, match=problem):
        load_recipe(recipe, (f"train.trainer.{setting}",))


def test_the_launcher_and_the_yaml_must_agree(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = lab.stage("train-none")
    with pytest.raises(UserError, match="num_nodes is 2, but this process was started alone"):
        team({"devices": 1, "num_nodes": 2}, None, stage).__enter__()
    with pytest.raises(UserError, match=r"devices is 64, but this process sees \d+ GPU"):
        team({"devices": 64, "accelerator": "gpu"}, None, stage).__enter__()
    for variable, value in {"RANK": "0", "WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(variable, value)
    for trainer in ({"devices": 2}, {"devices": 4}, {"devices": 2, "num_nodes": 4}):
        with pytest.raises(UserError, match="4 were started, 2 of them on this node") as raised:
            team(trainer, None, stage).__enter__()
        assert "train-none.trainer.devices=2 --set train-none.trainer.num_nodes=2" in raised.value.fix


def test_others_are_handed_the_stage_and_a_failing_one_is_an_error(
    lab: Lab, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tokenizer stands in for the model: what is handed out, and how it ends, is the same."""
    params = tokenizer_stage.Params("char")
    stage = lab.stage("tokenizer-char", text=[lab.split("train")])
    with start_others(2, params, stage) as found:
        assert found.first
        with found.first_alone("nothing"):
            pass
    assert set(tokenizer_stage.read_labels(stage.folder).tokens) == set(" abc")
    monkeypatch.setattr(workers, "_FAILED_S", 300.0)
    shutil.rmtree(stage.folder)
    stage.folder.touch()  # now the others cannot write into it
    with (
        pytest.raises(UserError, match=r"process [23] of 3 failed with exit status 1"),
        start_others(3, params, stage),
    ):
        raise RuntimeError("Connection closed by peer")  # as gloo says it in the first process
    assert "FileExistsError" in capfd.readouterr().err


HANGS = """
import logging, sys, threading
from pathlib import Path
from hlas.models.training import workers
from hlas.stage import Input, Stage
from hlas.tokenizers.stage import Params

workers._NOTICED_S = 0.1
text = (Input(Path(sys.argv[1])),)
stage = Stage("train", "tokenizer", Path(sys.argv[1]), {"text": text}, None, logging.getLogger("hlas"), 1)
with workers.start_others(2, Params("char"), stage):
    threading.Event().wait()  # as an exchange on GPUs does, whose other end is gone
"""


def test_a_first_process_that_hangs_as_another_died_is_ended(lab: Lab) -> None:
    command = [sys.executable, "-c", HANGS, str(lab.split("train").path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "error: train: process 2 of 2 failed with exit status 1\n  fix: " in done.stderr

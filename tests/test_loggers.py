"""TensorBoard, Weights & Biases and MLflow: what they get, and what a stage's folder does not tell of this machine."""

import getpass
import importlib
import json
import struct
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hlas.errors import UserError
from hlas.models.training import loggers
from hlas.models.training.job import Fit
from hlas.models.training.loggers import make_loggers
from hlas.models.training.options import Experiment
from hlas.tokenizers import stage as tokenizer_stage
from train_kit import Lab, curve, fit_job, params


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def job(lab: Lab, folder: Path, **options: Any) -> Fit:
    return replace(fit_job(lab, params()), folder=folder, experiment=Experiment(**options))


def told(folder: Path) -> list[str]:
    """Files of the folder that hold a path, the user or the interpreter of this machine."""
    secrets = [str(folder), str(Path.cwd()), sys.prefix, f"user_id: {getpass.getuser()}"]
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert files
    return [path.name for path in files if any(secret.encode() in path.read_bytes() for secret in secrets)]


def wandb_records(folder: Path) -> list[Any]:
    """The records of the offline runs, oldest run first. Their files are logs as LevelDB writes them, after 7 bytes.

    A log is blocks of 32 KiB, of pieces with a head of 7 bytes: checksum, length, place in the record (1: all of it,
    2: the first piece, 3: one in between, 4: the last one).
    """
    from wandb.proto.wandb_internal_pb2 import Record

    records, whole = [], b""
    for path in sorted((folder / "wandb").glob("offline-run-*/*.wandb"), key=lambda path: path.stat().st_mtime_ns):
        data, at = path.read_bytes(), 7
        while at + 7 <= len(data):
            if 32768 - at % 32768 < 7:
                at += 32768 - at % 32768  # padding: no head fits into the rest of the block
                continue
            _, length, place = struct.unpack_from("<IHB", data, at)
            piece = data[at + 7 : at + 7 + length]
            whole = piece if place in (1, 2) else whole + piece
            at += 7 + length
            if place in (1, 4):
                records.append(Record.FromString(whole))
    return records


def test_a_training_tells_weights_and_biases_its_curve_and_nothing_of_this_machine(lab: Lab) -> None:
    experiment = Experiment(create_wandb_logger=True, wandb_logger_kwargs={"project": "sorbian", "name": "first"})
    given = replace(params(epochs=2), exp_manager=experiment)
    lab.train("train-wandb", given, lab.tokenizer(tokenizer_stage.Params("char")))
    folder = lab.store / "train-wandb"
    assert told(folder / "wandb") == []
    records = wandb_records(folder)
    (run,) = (record.run for record in records if record.WhichOneof("record_type") == "run")
    assert (run.project, run.display_name, run.host) == ("sorbian", "first", "")
    config = {
        update.key: json.loads(update.value_json)
        for r in records
        for update in (*r.run.config.update, *r.config.update)
    }
    assert config["seed"] == 3 and config["trainer"] == {"max_epochs": 2}
    logged = [{item.key or "/".join(item.nested_key): item.value_json for item in r.history.item} for r in records]
    wers = [float(items["dev_wer"]) for items in logged if "dev_wer" in items]
    assert wers == pytest.approx([row["dev_wer"] for row in curve(folder)], abs=1e-5)


def test_a_resumed_run_is_the_same_run(lab: Lab, tmp_path: Path) -> None:
    ids = []
    for status in ("failed", "success"):
        (logger,) = make_loggers(job(lab, tmp_path, create_tensorboard_logger=False, create_wandb_logger=True))
        ids.append(logger.experiment.id)
        logger.log_metrics({"dev_wer": 0.5}, step=1)
        logger.finalize(status)
    assert ids[0] == ids[1]
    runs = [record.run.run_id for record in wandb_records(tmp_path) if record.WhichOneof("record_type") == "run"]
    assert set(runs) == set(ids)
    assert told(tmp_path) == []


def test_what_weights_and_biases_refuses_is_a_user_error(lab: Lab, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"wandb_logger_kwargs.*colour"):
        make_loggers(job(lab, tmp_path, create_wandb_logger=True, wandb_logger_kwargs={"colour": "red"}))


@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_a_logger_that_is_not_installed_says_what_to_install(
    lab: Lab, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(UserError, match=f"(?s){name} is not installed.*pip install"):
        make_loggers(job(lab, tmp_path, **{f"create_{name}_logger": True}))


def test_the_stage_decides_where_they_write() -> None:
    with pytest.raises(ValueError, match=r"wandb_logger_kwargs\.save_dir"):
        Experiment(wandb_logger_kwargs={"save_dir": "/tmp"})


def test_neither_is_imported_unless_switched_on(lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("wandb", "mlflow"):
        monkeypatch.setitem(sys.modules, name, None)  # an import would fail
    (logger,) = importlib.reload(loggers).make_loggers(job(lab, tmp_path))
    assert Path(logger.log_dir) == tmp_path / "tensorboard"


def test_mlflow_keeps_the_numbers_in_the_stage_without_paths(lab: Lab, tmp_path: Path) -> None:
    mlflow = pytest.importorskip("mlflow", reason="MLflow is an extra: pip install -e '.[mlflow]' -c constraints.txt")
    ids = []
    for status in ("failed", "success"):
        options = {"create_tensorboard_logger": False, "create_mlflow_logger": True}
        (logger,) = make_loggers(job(lab, tmp_path, **options, mlflow_logger_kwargs={"experiment_name": "sorbian"}))
        ids.append(logger.run_id)
        logger.log_metrics({"dev_wer": 0.5}, step=len(ids))
        logger.finalize(status)
    assert ids[0] == ids[1]
    assert told(tmp_path) == []
    client = mlflow.tracking.MlflowClient((tmp_path / "mlruns").as_uri())
    run = client.get_run(ids[0])
    assert run.data.params["trainer/max_epochs"] == "2"
    assert [metric.step for metric in client.get_metric_history(ids[0], "dev_wer")] == [1, 2]

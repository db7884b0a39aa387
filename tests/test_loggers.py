"""TensorBoard, Weights & Biases and MLflow: what they get, and what a stage's folder does not tell of this machine."""

import getpass
import importlib
import json
import re
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
from hlas.models.training.throughput import scalars
from hlas.tokenizers import stage as tokenizer_stage
from train_kit import Lab, curve, fit_job, killed_in, params


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def job(lab: Lab, folder: Path, **options: Any) -> Fit:
    return replace(fit_job(lab, params()), folder=folder, experiment=Experiment(**options))


def told(folder: Path) -> list[str]:
    """Files of the folder that hold a path, the user or the interpreter of this machine."""
    secrets = [str(folder.parent), f"{Path.home()}/.", str(Path.cwd()), sys.prefix, f"user_id: {getpass.getuser()}"]
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert files
    return [path.name for path in files if any(secret.encode() in path.read_bytes() for secret in secrets)]


def samples(folder: Path) -> list[list[list[str]]]:
    """What samples.jsonl has of each epoch: pairs of reference and heard."""
    rows = [json.loads(line) for line in (folder / "samples.jsonl").read_text(encoding="utf-8").splitlines()]
    epochs = sorted({row["epoch"] for row in rows})
    return [[[row["reference"], row["hypothesis"]] for row in rows if row["epoch"] == epoch] for epoch in epochs]


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
    for name in ("dev_wer", "samples_per_s", "wait_share"):
        values = [float(items[name]) for items in logged if name in items]
        assert values == pytest.approx([scalars(row).get(name, row.get(name)) for row in curve(folder)], rel=1e-6)
    (files,) = (folder / "wandb").glob("offline-run-*/files")
    paths = [json.loads(items["dev_samples/path"]) for items in logged if "dev_samples/path" in items]
    pages = [re.findall("<td>([^<]*)", (files / path).read_text(encoding="utf-8")) for path in paths]
    assert pages == [[text for pair in pairs for text in pair] for pairs in samples(folder)]


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


def test_a_training_tells_mlflow_its_curve_and_goes_on_with_the_same_run_in_a_folder_that_moved(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    mlflow = pytest.importorskip("mlflow", reason="MLflow is an extra: pip install -e '.[mlflow]' -c constraints.txt")
    experiment = Experiment(create_mlflow_logger=True, mlflow_logger_kwargs={"experiment_name": "sorbian"})
    given, tokenizer = replace(params(epochs=2), exp_manager=experiment), lab.tokenizer(tokenizer_stage.Params("char"))
    with killed_in(2):
        lab.train("train-broken", given, tokenizer)
    folder = (lab.store / "train-broken").rename(lab.store / "train-mlflow")
    assert told(folder / "mlruns") == []
    cache = importlib.import_module("mlflow.tracking._tracking_service.utils")._artifact_repos_cache
    cache.clear()  # of where a run's artefacts go; a new process has none
    lab.train(folder.name, given, tokenizer)
    assert not (lab.store / "train-broken").exists()
    assert told(folder / "mlruns") == []

    monkeypatch.chdir(folder)  # where `mlflow ui` is started
    client = mlflow.tracking.MlflowClient((folder / "mlruns").as_uri())
    (run,) = client.search_runs([client.get_experiment_by_name("sorbian").experiment_id])
    assert run.info.status == "FINISHED"
    assert run.data.params["trainer/max_epochs"] == "2"
    for name in ("dev_wer", "samples_per_s", "wait_share"):
        values = {m.step: m.value for m in client.get_metric_history(run.info.run_id, name)}  # the last of a step
        assert [*values] == [row["step"] - 1 for row in curve(folder)]
        assert [*values.values()] == pytest.approx([scalars(row).get(name, row.get(name)) for row in curve(folder)])
    texts = [item.path for item in client.list_artifacts(run.info.run_id, "dev_samples")]
    assert texts == ["dev_samples/epoch_001.txt", "dev_samples/epoch_002.txt"]
    for path, pairs in zip(texts, samples(folder), strict=True):
        text = Path(client.download_artifacts(run.info.run_id, path)).read_text(encoding="utf-8")
        assert text == "".join(f"{reference}\n{heard}\n\n" for reference, heard in pairs)

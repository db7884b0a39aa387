"""Where Lightning sends a training's numbers: TensorBoard's files, Weights & Biases and MLflow where switched on.

All write into the stage's folder. A stage's folder is copied and published, and so what these two note of the machine
on their own account (user, host, program, paths) is switched off, or taken out when the training ends. MLflow's file
store is left with paths relative to the stage's folder: start `mlflow ui` there. A server that the YAML names, or a
signed-in W&B, gets the same numbers and no more.
"""

import os
import re
import secrets
import shutil
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import MLFlowLogger, TensorBoardLogger, WandbLogger
from lightning.pytorch.utilities import rank_zero_only

from hlas.errors import UserError
from hlas.files import atomic_text, read_json, write_json
from hlas.models.training.job import Job

_PROJECT = "hlas"  # in W&B and MLflow, where the YAML names none
_IDS = "checkpoints/logger_ids.json"  # a resumed training goes on with its runs; a finished one has none any more
_ARTIFACTS = re.compile(r"(?m)^(artifact_(?:location|uri): ).*/mlruns/")  # of MLflow's file store


def make_loggers(job: Job) -> list[Any]:
    """Lightning's loggers as `exp_manager` has them; UserError where one is not installed or does not start."""
    options = job.experiment
    loggers: list[Any] = []
    if options.create_tensorboard_logger:
        loggers.append(TensorBoardLogger(save_dir=str(job.folder), name="tensorboard", version=""))
    makers = {"wandb": (options.create_wandb_logger, _wandb), "mlflow": (options.create_mlflow_logger, _mlflow)}
    for name, (wanted, make) in makers.items():
        if not wanted:
            continue
        if find_spec(name) is None:
            raise UserError(f"exp_manager.create_{name}_logger", f"{name} is not installed", _INSTALL[name])
        loggers.append(make(job))
        if rank_zero_only.rank == 0:
            _start(name, loggers[-1], job)
    return loggers


def log_samples(loggers: Iterable[Any], pairs: Sequence[tuple[str, str]], epoch: int, step: int) -> None:
    """Send each logger what some utterances are and what they were heard as: text, a table, a text artefact."""
    for logger in loggers:
        if isinstance(logger, TensorBoardLogger):
            # indented lines are code in Markdown, which is how TensorBoard reads a text
            text = "\n\n".join(f"    {reference}\n    {heard}" for reference, heard in pairs)
            logger.experiment.add_text("dev samples: reference, heard", text, step)
        elif isinstance(logger, WandbLogger):
            from wandb import Html

            # not log_text: its table is an artefact, whose record names a folder in the user's home
            rows = "".join(f"<tr><td>{escape(reference)}<td>{escape(heard)}" for reference, heard in pairs)
            page = f"<table><tr><th>reference<th>heard{rows}</table>"
            logger.log_metrics({"dev_samples": Html(page, inject=False, data_is_not_path=True)}, step)
        elif isinstance(logger, MLFlowLogger):
            text = "".join(f"{reference}\n{heard}\n\n" for reference, heard in pairs)
            logger.experiment.log_text(logger.run_id, text, f"dev_samples/epoch_{epoch + 1:03d}.txt")


_INSTALL = {"wandb": "pip install wandb", "mlflow": "pip install -e '.[mlflow]' -c constraints.txt"}
_FIX = {
    "wandb": "see exp_manager.wandb_logger_kwargs (arguments of wandb.init); sign in with `wandb login`, or set "
    "WANDB_MODE=offline",
    "mlflow": "see exp_manager.mlflow_logger_kwargs (experiment_name, run_name, tracking_uri, tags)",
}


def _start(name: str, logger: Any, job: Job) -> None:
    """Open the run, or the one that an interrupted training had, and note what is trained."""
    try:
        run = logger.experiment.id if name == "wandb" else logger.run_id
        logger.log_hyperparams({"model": job.model, "trainer": job.trainer, "seed": job.seed})
    except Exception as error:  # whatever the client, a server or the network has to say
        raise UserError(f"exp_manager.{name}_logger_kwargs", f"{type(error).__name__}: {error}", _FIX[name]) from error
    (job.folder / _IDS).parent.mkdir(exist_ok=True)
    write_json(job.folder / _IDS, {**_ids(job), name: run})


def _ids(job: Job) -> dict[str, str]:
    path = job.folder / _IDS
    return dict(read_json(path)) if path.is_file() else {}


class _Wandb(WandbLogger):  # type: ignore[misc]  # lightning is untyped here
    """Ends its run with the training, as the next stage of the same process has one of its own."""

    _experiment: Any

    def finalize(self, status: str) -> None:
        """Called by Lightning when the training ends, also by an error; `status`: 'success' or 'failed'."""
        super().finalize(status)
        run, self._experiment = self._experiment, None
        if run is not None:
            run.finish(exit_code=int(status != "success"))
            for folder in Path(self.save_dir, "wandb").glob("*run-*/logs"):
                shutil.rmtree(folder)  # the client's own, with this machine's paths


def _wandb(job: Job) -> Any:
    import wandb

    settings = wandb.Settings(
        console="off",
        silent=True,
        disable_git=True,
        disable_code=True,
        disable_job_creation=True,
        host="",
        symlink=False,
        x_disable_meta=True,
        x_disable_machine_info=True,
        x_disable_stats=True,
        x_save_requirements=False,
    )
    run = _ids(job).get("wandb", secrets.token_hex(4))
    given = {"project": _PROJECT, **job.experiment.wandb_logger_kwargs}
    return _made("wandb", _Wandb, {"id": run, "settings": settings, **given, "save_dir": str(job.folder)})


class _Mlflow(MLFlowLogger):  # type: ignore[misc]  # lightning is untyped here
    """Leaves no path of this machine in its file store."""

    folder = Path()  # of the stage

    def finalize(self, status: str) -> None:
        """Called by Lightning when the training ends, also by an error; `status`: 'success' or 'failed'."""
        super().finalize(status)
        _place_store(self.folder, "file:.")


def _place_store(folder: Path, base: str) -> None:
    """Let the file store say that it lies in `base`: the client writes artefacts where its meta.yaml files say."""
    for path in (folder / "mlruns").rglob("meta.yaml") if rank_zero_only.rank == 0 else ():
        text = path.read_text(encoding="utf-8")
        with atomic_text(path) as file:
            file.write(_ARTIFACTS.sub(lambda match: f"{match[1]}{base}/mlruns/", text))


def _mlflow(job: Job) -> Any:
    folder = job.folder.resolve()
    own = {"experiment_name": _PROJECT, "tracking_uri": (folder / "mlruns").as_uri()}
    os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")  # MLflow 3 would rather have a database
    given: dict[str, Any] = own | job.experiment.mlflow_logger_kwargs
    tags = {"mlflow.user": _PROJECT, "mlflow.source.name": _PROJECT, **given.pop("tags", {})}
    logger = _made("mlflow", _Mlflow, {"run_id": _ids(job).get("mlflow"), **given, "tags": tags})
    logger.folder = folder
    _place_store(folder, folder.as_uri())  # an interrupted training left it without paths, or lay elsewhere
    return logger


def _made(name: str, kind: Any, arguments: Mapping[str, Any]) -> Any:
    try:
        return kind(**arguments)
    except Exception as error:  # as in _start
        raise UserError(f"exp_manager.{name}_logger_kwargs", f"{type(error).__name__}: {error}", _FIX[name]) from error

"""A model YAML -> an untrained NeMo CTC model: labels and manifests filled in, the class chosen by the tokenizer."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hlas.errors import UserError
from hlas.models.augmentor import with_sets
from hlas.models.training.job import SECTIONS, Fit


def build_model(job: Fit, trainer: Any) -> Any:
    """An EncDecCTCModel, or for subwords an EncDecCTCModelBPE, with random weights and no data yet."""
    from omegaconf import OmegaConf

    from hlas.models.nemo_quiet import import_asr

    models = import_asr().models
    from hlas.models.masks import mend_cutout
    from hlas.models.pitch import register_pitch
    from hlas.models.training.schedules import register_schedules

    register_pitch()
    register_schedules()
    model_class = models.EncDecCTCModelBPE if job.labels.unit == "bpe" else models.EncDecCTCModel
    # the data is attached once the model has shown what it can be trained on
    config = {key: value for key, value in model_config(job).items() if key not in SECTIONS.values()}
    model = model_class(cfg=OmegaConf.create(config), trainer=trainer)
    mend_cutout(model)
    model._log_hyperparams = False  # TensorBoard would keep this machine's paths; stage.json has the parameters
    return model


def model_config(job: Fit) -> dict[str, Any]:
    """NeMo's model config with the labels and manifests filled in."""
    config: dict[str, Any] = json.loads(json.dumps(dict(job.model)))
    labels = list(job.labels.tokens)
    data = {"sample_rate": config.setdefault("sample_rate", 16000), "normalize_transcripts": False}
    if job.labels.unit == "bpe":
        config["tokenizer"] = {"dir": str(job.labels.folder), "type": "bpe"}
        config["decoder"] |= {"num_classes": -1, "vocabulary": []}
        data |= {"use_start_end_token": False}
    else:
        config["labels"] = labels
        config["decoder"] |= {"num_classes": len(labels), "vocabulary": labels}
        data |= {"labels": labels, "parser": "base"}
    config |= data_sections(config, job.sets, data, job.train, job.dev)
    config.setdefault("log_prediction", False)
    if config["optim"].get("sched") is None:  # NeMo takes a key without a value for a schedule
        config["optim"].pop("sched", None)
    return config


def data_sections(
    config: Mapping[str, Any], sets: Mapping[str, Path], data: dict[str, Any], train: Path, dev: Path
) -> dict[str, Any]:
    """Complete train_ds and validation_ds of a `model` section: defaults, the YAML's keys, `data`, the manifests."""
    usual = {"shuffle": True, "drop_last": False, "pin_memory": True, "trim_silence": False}
    heard = {"batch_size": 16, "pin_memory": True} | config.get("validation_ds", {}) | data
    learnt = usual | with_sets(config["train_ds"], sets, data["sample_rate"]) | data
    return {
        "train_ds": learnt | {"manifest_filepath": str(train)},
        "validation_ds": heard | {"manifest_filepath": str(dev), "shuffle": False},
    }


def precision_of(wanted: str, accelerator: str = "auto") -> str:
    """Lightning's word for the precision: 'auto' is mixed where the GPU has it. UserError for 16-mixed on a CPU.

    `accelerator` is the trainer's: a machine with a GPU may train on its CPU.
    """
    import torch

    gpu = accelerator != "cpu" and torch.cuda.is_available()
    if wanted == "16-mixed" and not gpu:
        problem = "there is no GPU to train on, and on a CPU Lightning would take bf16-mixed in its place"
        raise UserError("train: precision 16-mixed", problem, "precision: auto, '32' or bf16-mixed")
    if wanted != "auto":
        return wanted
    if not gpu:
        return "32-true"
    return "bf16-mixed" if torch.cuda.is_bf16_supported() else "16-mixed"

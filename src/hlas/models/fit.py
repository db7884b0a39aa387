"""Lightning's training loop around a NeMo CTC model: built from plain values, resumed from the last checkpoint."""

import json
import logging
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hlas.errors import UserError
from hlas.models.augmentor import with_sets
from hlas.tokenizers.stage import Labels

MONITOR = "val_wer"  # NeMo's name of the dev WER
_BEST_NAME = re.compile(r"epoch=(\d+)-val_wer=(\d+\.\d+)\.ckpt")


@dataclass(frozen=True)
class Fit:
    """Everything that decides a training."""

    model: Mapping[str, Any]
    trainer: Mapping[str, Any]
    precision: str
    seed: int
    train: Path
    dev: Path
    labels: Labels
    initial: Path | None  # .nemo whose weights are the start
    folder: Path
    sets: Mapping[str, Path] = field(default_factory=dict)  # manifests of 'noise' and 'rooms' to mix in


@dataclass(frozen=True, slots=True)
class FitResult:
    """What came of it."""

    parameters: int
    epochs: int
    steps: int
    best_dev_wer: float
    best_epoch: int
    device: str
    precision: str
    decoder: str  # 'new', or 'kept' from the model that it started from


def fit(job: Fit, log: logging.Logger) -> FitResult:
    """Train to the end, save the best model by dev WER as job.folder/model.nemo."""
    from hlas.models.nemo_quiet import import_asr

    nemo_asr = import_asr()
    import lightning.pytorch as lightning
    import torch
    from lightning.pytorch.callbacks import ModelCheckpoint
    from lightning.pytorch.loggers import TensorBoardLogger
    from omegaconf import OmegaConf

    from hlas.models.curve import Curve

    lightning.seed_everything(job.seed, workers=True, verbose=False)
    torch.set_float32_matmul_precision("high")
    last = job.folder / "checkpoints" / "last.ckpt"
    best = ModelCheckpoint(
        dirpath=job.folder / "checkpoints",
        filename="{epoch:03d}-{val_wer:.5f}",
        monitor=MONITOR,
        mode="min",
        save_top_k=1,
        save_last=True,
        save_on_train_epoch_end=True,  # after the dev WER; one saved during validation resumes inside its epoch
    )
    curve = Curve(job.folder / "curve.jsonl", log)
    precision = _precision(job.precision, torch)
    trainer = lightning.Trainer(
        **{
            "accelerator": "auto",
            "devices": 1,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "num_sanity_val_steps": 0,
            "log_every_n_steps": 10,
            "check_val_every_n_epoch": 1,
            **job.trainer,
        },
        precision=precision,
        logger=TensorBoardLogger(save_dir=str(job.folder), name="tensorboard", version=""),
        callbacks=[best, curve],
        default_root_dir=str(job.folder),
    )
    model_class = nemo_asr.models.EncDecCTCModelBPE if job.labels.unit == "bpe" else nemo_asr.models.EncDecCTCModel
    model = model_class(cfg=OmegaConf.create(model_config(job)), trainer=trainer)
    model._log_hyperparams = False  # TensorBoard would keep this machine's paths; stage.json has the parameters
    kept = job.initial is not None and _start_from(model, job.initial, log)
    parameters = sum(p.numel() for p in model.parameters() if p.requires_grad)
    device = str(trainer.strategy.root_device)
    log.info(
        "%s: %.2f M parameters, %d labels, on %s, %s",
        model_class.__name__,
        parameters / 1e6,
        len(job.labels.tokens),
        device,
        precision,
    )
    started = time.monotonic()
    try:
        # our own checkpoints hold Lightning's loop state beside tensors, which weights_only refuses
        trainer.fit(model, ckpt_path=str(last) if last.is_file() else None)
    except SystemExit as error:  # how Lightning answers Ctrl-C
        raise KeyboardInterrupt from error
    except torch.OutOfMemoryError as error:
        fix = (
            "halve model.train_ds.batch_size and double trainer.accumulate_grad_batches, or lower train_ds.max_duration"
        )
        raise UserError("train", "the GPU is out of memory", fix) from error
    chosen = best_checkpoint(job.folder / "checkpoints")
    if chosen is None:
        raise UserError(
            "train",
            "no epoch was validated",
            "give it at least one whole epoch (trainer.max_epochs, check_val_every_n_epoch)",
        )
    best_wer, best_epoch, path = chosen
    state = torch.load(path, map_location="cpu", weights_only=False)["state_dict"]
    model.load_state_dict(state)
    _save(model, job.folder / "model.nemo")
    log.info("trained in %.0f s; best dev WER %.4f", time.monotonic() - started, best_wer)
    return FitResult(
        parameters,
        int(trainer.current_epoch),
        int(trainer.global_step),
        best_wer,
        best_epoch,
        torch.cuda.get_device_name() if device.startswith("cuda") else "cpu",
        precision,
        "kept" if kept else "new",
    )


def best_checkpoint(folder: Path) -> tuple[float, int, Path] | None:
    """Dev WER, epoch and file of the best checkpoint, by its name: Lightning forgets it when a resumed folder moves."""
    matches = ((_BEST_NAME.fullmatch(path.name), path) for path in folder.glob("*.ckpt"))
    return min(((float(match[2]), int(match[1]), path) for match, path in matches if match), default=None)


def _precision(wanted: str, torch: Any) -> str:
    if wanted != "auto":
        return wanted
    if not torch.cuda.is_available():
        return "32-true"
    return "bf16-mixed" if torch.cuda.is_bf16_supported() else "16-mixed"


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
    augmented = with_sets(config["train_ds"], job.sets)
    train = {"shuffle": True, "num_workers": 0, "pin_memory": True, "trim_silence": False} | augmented
    dev = {"batch_size": 16, "num_workers": 0, "pin_memory": True} | config.get("validation_ds", {})
    config["train_ds"] = train | data | {"manifest_filepath": str(job.train)}
    config["validation_ds"] = dev | data | {"manifest_filepath": str(job.dev), "shuffle": False}
    config.setdefault("log_prediction", False)
    return config


def _start_from(model: Any, path: Path, log: logging.Logger) -> bool:
    """Copy another model's weights; its decoder only where the labels are the same ones in the same order.

    Returns whether the decoder was kept.
    """
    from hlas.models.nemo_ctc import CtcModel

    other = CtcModel.load(path, "cpu")
    same = list(other.vocabulary.tokens) == [str(t) for t in model.decoder.vocabulary]
    state = {k: v for k, v in other.model.state_dict().items() if same or not k.startswith("decoder.")}
    own = model.state_dict()
    wrong = [k for k, v in state.items() if k not in own or own[k].shape != v.shape]
    if wrong:
        raise UserError(
            f"init {path.name}",
            f"another architecture: {len(wrong)} weights do not fit, first {wrong[0]}",
            "name the spec that it was trained with",
        )
    model.load_state_dict(state, strict=False)
    log.info("starts from %s; decoder %s", path.name, "kept" if same else "new, as the labels differ")
    return same


def _save(model: Any, path: Path) -> None:
    """Save as .nemo without this machine's paths; NeMo's `transcribe` needs a minimal validation_ds."""
    from omegaconf import open_dict

    with open_dict(model.cfg):
        for split in ("train_ds", "validation_ds", "test_ds"):
            if model.cfg.get(split) is not None:
                model.cfg[split].manifest_filepath = None
                model.cfg[split].pop("augmentor", None)
    part = path.with_name("part.nemo")
    model.save_to(str(part))
    part.replace(path)

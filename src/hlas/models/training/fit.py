"""Lightning's training loop around a NeMo CTC model: built from plain values, resumed from the last checkpoint."""

import logging
import time
from pathlib import Path
from typing import Any

from hlas.errors import UserError
from hlas.models.training.job import Fit, FitResult


def fit(job: Fit, log: logging.Logger) -> FitResult:
    """Train to the end, save the best model by dev WER as job.folder/model.nemo."""
    from hlas.models.nemo_quiet import import_asr

    import_asr()
    import lightning.pytorch as lightning
    import torch
    from lightning.pytorch.loggers import TensorBoardLogger

    from hlas.models.training.build import build_model, precision_of
    from hlas.models.training.checkpoints import best_checkpoint, checkpoint_callbacks, last_checkpoint
    from hlas.models.training.curve import Curve
    from hlas.models.training.start import start_from

    lightning.seed_everything(job.seed, workers=True, verbose=False)
    torch.set_float32_matmul_precision("high")
    curve = Curve(job.folder / "curve.jsonl", log)
    precision = precision_of(job.precision)
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
        callbacks=[*checkpoint_callbacks(job.folder, job.experiment), curve],
        default_root_dir=str(job.folder),
    )
    model = build_model(job, trainer)
    decoder = start_from(model, job.start, log)
    parameters = sum(p.numel() for p in model.parameters() if p.requires_grad)
    device = str(trainer.strategy.root_device)
    log.info(
        "%s: %.2f M parameters, %d labels, on %s, %s",
        type(model).__name__,
        parameters / 1e6,
        len(job.labels.tokens),
        device,
        precision,
    )
    started = time.monotonic()
    last = last_checkpoint(job.folder)
    try:
        # our own checkpoints hold Lightning's loop state beside tensors, which weights_only refuses
        trainer.fit(model, ckpt_path=str(last) if last else None)
    except SystemExit as error:  # how Lightning answers Ctrl-C
        raise KeyboardInterrupt from error
    except torch.OutOfMemoryError as error:
        fix = (
            "halve model.train_ds.batch_size and double trainer.accumulate_grad_batches, or lower train_ds.max_duration"
        )
        raise UserError("train", "the GPU is out of memory", fix) from error
    chosen = best_checkpoint(job.folder)
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
        parameters=parameters,
        trainable=parameters,
        epochs=int(trainer.current_epoch),
        steps=int(trainer.global_step),
        best_dev_wer=best_wer,
        best_epoch=best_epoch,
        weights="best",
        device=torch.cuda.get_device_name() if device.startswith("cuda") else "cpu",
        precision=precision,
        decoder=decoder,
        processes=1,
        rejects={},
        peak_gpu_gib=None,
        samples_per_s=None,
        wait_share=None,
    )


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

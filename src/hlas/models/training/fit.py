"""Lightning's training loop around a NeMo CTC model: built from plain values, resumed from the last checkpoint."""

import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hlas.errors import UserError
from hlas.models.training.job import Fit, FitResult, Job
from hlas.models.training.optim_keys import never_warm
from hlas.models.training.workers import Team

_TRAINER = "see the arguments of lightning.pytorch.Trainer"


def fit(job: Fit, team: Team, log: logging.Logger) -> FitResult | None:
    """Train to the end, save the best model by dev WER as job.folder/model.nemo.

    Of several processes the first one saves; the others return None.
    """
    from hlas.models.nemo_quiet import import_asr

    import_asr()
    import lightning.pytorch as lightning
    import torch

    from hlas.models.training.build import build_model
    from hlas.models.training.checkpoints import choose_weights, weights_of
    from hlas.models.training.curve import Curve
    from hlas.models.training.guards import Guard
    from hlas.models.training.kept_loading import rest_of_encoder
    from hlas.models.training.refusals import explain_optimiser, explained
    from hlas.models.training.throughput import Throughput
    from hlas.models.training.unfreezing import Unfreezing
    from hlas.models.training.validation import DevTranscripts

    lightning.seed_everything(job.seed, workers=True, verbose=False)
    torch.set_float32_matmul_precision("high")
    freezing = Unfreezing(job.freeze, job.unfreeze, job.freeze_batch_norm, log)
    throughput = Throughput()
    curve = Curve(job.folder / "curve.jsonl", throughput, log)
    guard = Guard(save, ".nemo")
    dev = DevTranscripts(job.labels)
    trainer = make_trainer(job, team, dev, [freezing, throughput, curve, guard], log)
    with explained("model", "see the arguments of that class, in NeMo's documentation or hlas.models.modules"):
        model = build_model(job, trainer)
    explain_optimiser(model)
    with guard.explained(job, model):
        screened, decoder = _prepare(model, job, team, trainer.strategy.root_device, log)
        set_length(trainer, model, job, log)
        _say(model, trainer, job, log)
        started = time.monotonic()
        with rest_of_encoder(model, job):
            train(trainer, model, job.folder)
            chosen = choose_weights(trainer, model, job.folder, job.experiment, log)
    if not team.first:
        return None
    save(model, job.folder / "model.nemo")
    for other in chosen.others:
        model.load_state_dict(weights_of(other))
        save(model, job.folder / f"model.epoch_{other.epoch + 1:03d}.nemo")
    log.info("trained in %.0f s; best dev WER %.4f", time.monotonic() - started, chosen.best.dev_wer)
    rejects = {split: result.rejects for split, result in screened.items()}
    common = outcome(trainer, model, chosen, curve, freezing.trainable, rejects)
    return FitResult(**common, decoder=decoder, processes=team.me.count)


def _prepare(model: Any, job: Fit, team: Team, device: Any, log: logging.Logger) -> tuple[Mapping[str, Any], str]:
    """All before the loop: the rows, the first weights, the loaders.

    Returns the rows (split -> Screened) and what became of the decoder.
    """
    from hlas.models.training.kept_loading import attach_kept_loaders
    from hlas.models.training.loading import attach_loaders
    from hlas.models.training.screening import screen
    from hlas.models.training.start import check_frozen, start_from

    with team.first_alone("screening"):
        screened = screen(model, job, log)
    check_frozen(model, job.start, job.freeze, job.freeze_batch_norm)
    with team.first_alone("the first weights"):  # they may have to be fetched
        decoder = start_from(model, job.start, log)
    if job.keep_outputs:
        model.to(device)
        with team.first_alone("keeping outputs"):
            attach_kept_loaders(model, job, screened, team.me.rank, team.me.count, log)
    else:
        attach_loaders(model, job, screened, team.me.rank, team.me.count, log)
    return screened, decoder


def outcome(
    trainer: Any,
    model: Any,
    chosen: Any,
    curve: Any,
    trainable: int,
    rejects: Mapping[str, Mapping[str, int]],
) -> dict[str, Any]:
    """The fields of `Trained`; `chosen` is a checkpoints.Chosen, `curve` the callback that kept the curve."""
    import torch

    from hlas.models.training.throughput import speed

    measured = speed(curve.rows)
    return {
        "parameters": sum(p.numel() for p in model.parameters()),
        "trainable": trainable,
        "epochs": int(trainer.current_epoch),
        "steps": int(trainer.global_step),
        "best_dev_wer": chosen.best.dev_wer,
        "best_epoch": chosen.best.epoch,
        "weights": chosen.weights,
        "dev_wers": chosen.dev_wers,
        "device": torch.cuda.get_device_name() if trainer.strategy.root_device.type == "cuda" else "cpu",
        "precision": trainer.precision,
        "rejects": {split: dict(counts) for split, counts in rejects.items()},
        "peak_gpu_gib": measured.peak_gpu_gib,
        "samples_per_s": measured.samples_per_s,
        "wait_share": measured.wait_share,
    }


def make_trainer(job: Job, team: Team, dev: Any, callbacks: list[Any], log: logging.Logger) -> Any:
    """Lightning's Trainer with the callbacks of every training around those given; `dev` is a DevRates."""
    import lightning.pytorch as lightning

    from hlas.models.training.build import precision_of
    from hlas.models.training.checkpoint_files import WholeFiles
    from hlas.models.training.checkpoints import checkpoint_callbacks
    from hlas.models.training.epochs import EpochState, StopAfterSteps
    from hlas.models.training.loggers import make_loggers
    from hlas.models.training.refusals import explained
    from hlas.models.training.samples import Samples

    given = {
        "accelerator": "auto",
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "num_sanity_val_steps": 0,
        "log_every_n_steps": 10,
        "check_val_every_n_epoch": 1,
        **team.trainer(job.trainer),
    }
    steps, plugins = given.pop("max_steps", -1), given.pop("plugins")
    keep = checkpoint_callbacks(
        job.folder,
        job.experiment,
        log,
        blank_at_first=dev.blank_at_first,
        check_every=given["check_val_every_n_epoch"],
    )
    own = [*keep, dev, *callbacks, EpochState(job.seed)]  # an average's own work is no wait for data
    if job.experiment.samples:
        own.append(Samples(job.folder / "samples.jsonl", dev, job.experiment.samples, job.seed))
    if steps >= 0:
        own.append(StopAfterSteps(steps))
    loggers = make_loggers(job)
    with explained("trainer", _TRAINER):
        return lightning.Trainer(
            **{"max_epochs": -1, **given},
            precision=precision_of(job.precision, given["accelerator"]),
            logger=loggers,
            callbacks=own,
            plugins=[*plugins, WholeFiles()],
            default_root_dir=str(job.folder),
        )


def set_length(trainer: Any, model: Any, job: Job, log: logging.Logger) -> None:
    """Fix the number of epochs and, for the schedulers, that of the optimiser's steps.

    NeMo would compute the steps from the loader's batch size, which a loader of batches that differ does not have.
    """
    from omegaconf import open_dict

    from hlas.models.training.loading import batches_an_epoch

    steps, epochs = job.trainer.get("max_steps", -1), trainer.max_epochs
    total = steps
    if (batches := batches_an_epoch(trainer, model)) is not None:
        _check_batches(trainer, batches)
        steps_an_epoch = max(1, -(-batches // trainer.accumulate_grad_batches))
        if steps >= 0:
            needed = -(-steps // steps_an_epoch)
            epochs = trainer.fit_loop.max_epochs = needed if epochs < 0 else min(epochs, needed)
        total = epochs * steps_an_epoch if steps < 0 else min(steps, epochs * steps_an_epoch)
    check_every = trainer.check_val_every_n_epoch
    if 0 <= epochs < check_every:
        problem = f"dev is heard every {check_every} epochs, and the training has {epochs}: no weights could be chosen"
        raise UserError("train: trainer.check_val_every_n_epoch", problem, f"at most {epochs}")
    sched = model.cfg.optim.get("sched")
    if sched is not None and sched.get("max_steps") is None:
        if total < 0:
            problem = "the loader has no length, so that nothing says how many steps the schedule has"
            raise UserError("train: model.train_ds", problem, "set trainer.limit_train_batches, or max_steps")
        with open_dict(sched):
            sched.max_steps = total
        if warning := never_warm(sched, sched.max_steps):
            log.warning("%s", warning)


def _check_batches(trainer: Any, batches: int) -> None:
    if not batches:
        problem = f"{trainer.limit_train_batches} leaves no batch of an epoch"
        raise UserError("train: trainer.limit_train_batches", problem, "raise it, or lower model.train_ds.batch_size")
    if isinstance(every := trainer.val_check_interval, int) and every > batches:
        problem = f"{every} batches, where an epoch has {batches}"
        raise UserError("train: trainer.val_check_interval", problem, f"at most {batches}, or a share of an epoch")


def train(trainer: Any, model: Any, folder: Path) -> None:
    """Lightning's loop, from the last checkpoint where there is one."""
    from lightning.fabric.utilities.exceptions import MisconfigurationException

    from hlas.models.training.checkpoints import last_checkpoint

    last = last_checkpoint(folder)
    try:
        # our own checkpoints hold Lightning's loop state beside tensors, which weights_only refuses
        trainer.fit(model, ckpt_path=str(last) if last else None)
    except MisconfigurationException as error:  # keys that do not go together, or with the data
        raise UserError("train: trainer", " ".join(str(error).split()), _TRAINER) from error
    except SystemExit as error:  # how Lightning answers Ctrl-C
        raise KeyboardInterrupt from error


def _say(model: Any, trainer: Any, job: Fit, log: logging.Logger) -> None:
    log.info(
        "%s: %.2f M parameters, %d labels, on %s, %s",
        type(model).__name__,
        sum(p.numel() for p in model.parameters()) / 1e6,
        len(job.labels.tokens),
        trainer.strategy.root_device,
        trainer.precision,
    )


def save(model: Any, path: Path) -> None:
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

"""What the tests of freezing and unfreezing share: a tiny QuartzNet, a real training of it, and what it changed."""

import copy
from typing import Any

import lightning.pytorch as lightning
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from omegaconf import OmegaConf

from hlas.models.train_stage import Params
from hlas.models.training.build import build_model, model_config
from hlas.models.training.unfreezing import Unfreezing
from train_kit import Lab, fit_job, params

States = list[dict[str, Any]]


def quartznet() -> Params:
    """A stem of two blocks that stride, and three blocks after it."""
    given = params()
    jasper = given.model["encoder"]["jasper"]
    given.model["encoder"]["jasper"] = [*jasper, jasper[2], jasper[2]]
    return given


class Record(Callback):
    """The model's state before training and after every epoch, and whether its parts were in training mode."""

    def __init__(self) -> None:
        self.states: States = []
        self.training: list[dict[str, bool]] = []

    def on_train_start(self, trainer: Any, model: Any) -> None:
        self.states.append(copy.deepcopy(model.state_dict()))

    def on_train_batch_end(self, trainer: Any, model: Any, outputs: Any, batch: Any, index: int) -> None:
        if index == 0:
            self.training.append({name: module.training for name, module in model.named_modules()})

    def on_train_epoch_end(self, trainer: Any, model: Any) -> None:
        self.states.append(copy.deepcopy(model.state_dict()))


def trained(lab: Lab, given: Params, freezing: Unfreezing, epochs: int, **how: Any) -> Record:
    """A model after a real training, with validation, of so many epochs."""
    import torch

    torch.manual_seed(5)
    record = Record()
    callbacks = [freezing, record, *how.pop("callbacks", [])]
    trainer = lightning.Trainer(
        accelerator="cpu", max_epochs=epochs, callbacks=callbacks, logger=False,
        enable_checkpointing=any(isinstance(callback, ModelCheckpoint) for callback in callbacks),
        enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0,
    )  # fmt: skip
    job = fit_job(lab, given)
    model = build_model(job, trainer)
    data = OmegaConf.create(model_config(job))
    model.setup_training_data(data.train_ds)
    model.setup_validation_data(data.validation_ds)
    trainer.fit(model, **how)
    return record


def changed(states: States, since: int = 0) -> set[str]:
    """The parts (encoder.encoder.0, encoder.layers.1, decoder …) of which something changed, buffers counted."""
    before, after = states[since], states[-1]
    names = {name for name in after if not after[name].equal(before[name])}
    depth = {"encoder": 3, "decoder": 1}
    return {".".join(name.split(".")[: depth[name.split(".")[0]]]) for name in names}


QUARTZNET = [f"encoder.encoder.{i}" for i in range(5)]

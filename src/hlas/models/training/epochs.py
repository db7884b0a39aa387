"""A Lightning callback that starts every epoch from a state that only (seed, epoch, process) decide.

With it a training that was killed and goes on from the end of an epoch is the one that was never killed.
"""

import random
from typing import Any

import numpy as np
import torch
from lightning.pytorch.callbacks import Callback

from hlas.models.training.batching import BatchSampler
from hlas.models.training.optim_keys import MEASURED

BY_US = "by hlas"  # a scheduler's interval that Lightning does not know, and so leaves alone


class EpochState(Callback):  # type: ignore[misc]  # lightning is untyped here
    """Order of the data, random state, and what of the schedulers Lightning would leave out of a checkpoint."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_start(self, trainer: Any, model: Any) -> None:
        """Take over the schedulers that wait for a plateau: Lightning steps them after it has saved the epoch."""
        for config in trainer.lr_scheduler_configs:
            if config.reduce_on_plateau and config.interval == "epoch":
                config.interval = BY_US

    def on_train_epoch_start(self, trainer: Any, model: Any) -> None:
        """Set the epoch of the data, and the random state of dropout and SpecAugment."""
        # Lightning makes the epoch's iterator after this hook, but in epoch 0, which a sampler starts with
        sampler = getattr(trainer.train_dataloader, "batch_sampler", None)
        if isinstance(sampler, BatchSampler):
            sampler.epoch = trainer.current_epoch
        words = np.random.SeedSequence((self.seed, trainer.current_epoch, trainer.global_rank)).generate_state(4)
        python_seed, numpy_seed, torch_seed, own_seed = (int(word) for word in words)
        random.seed(python_seed)
        np.random.seed(numpy_seed)
        torch.manual_seed(torch_seed)
        for number, module in enumerate(model.modules()):  # NeMo's SpecAugment has a generator of its own
            if isinstance(rng := getattr(module, "_rng", None), random.Random):
                rng.seed(own_seed + number)

    def on_train_epoch_end(self, trainer: Any, model: Any) -> None:
        """Step the schedulers that wait for a plateau."""
        if (trainer.current_epoch + 1) % trainer.check_val_every_n_epoch:
            return  # what was measured last would count twice
        for config in trainer.lr_scheduler_configs:
            if config.interval == BY_US:
                config.scheduler.step(trainer.callback_metrics[MEASURED[config.monitor]])


class StopAfterSteps(Callback):  # type: ignore[misc]  # lightning is untyped here
    """Ends the training after so many optimiser steps, with the epoch's validation and checkpoint.

    Lightning's own max_steps resumes a finished epoch as if it were unfinished, and validates it twice.
    """

    def __init__(self, steps: int) -> None:
        self.steps = steps

    def on_train_batch_end(self, trainer: Any, model: Any, outputs: Any, batch: Any, index: int) -> None:
        """Stop where enough steps are made."""
        if trainer.global_step >= self.steps:
            trainer.should_stop = True

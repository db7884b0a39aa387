"""A Lightning callback that holds what is frozen, epoch by epoch: frozen from the start, thawed in steps."""

import logging
from collections.abc import Mapping
from typing import Any

from lightning.pytorch.callbacks import Callback

from hlas.models.freezing import Freeze, apply_freeze, encoder_of, frozen_modules, written


class Unfreezing(Callback):  # type: ignore[misc]  # lightning is untyped here
    """Freezes `freeze`, from epoch E of `unfreeze` on what that names; the epochs are those of curve.jsonl, from 0.

    The optimiser holds all parameters from the start, and skips those without a gradient. What is frozen now depends on
    the epoch alone, so a resumed training goes on as it would have.
    """

    def __init__(self, freeze: Freeze, unfreeze: Mapping[int, Freeze], batch_norm: bool, log: logging.Logger) -> None:
        self.policies = {0: freeze, **dict(sorted(unfreeze.items()))}
        self.batch_norm, self.journal = batch_norm, log  # not `log`: Lightning binds that name itself
        self.trainable = 0  # parameters that some epoch changes; known once the training begins
        self._learnable: list[Any] = []  # all that the model itself lets be trained
        self._thawing: list[Any] = []  # trained in the last epoch
        self._held: list[Any] = []  # frozen now, though with gradients

    def policy(self, epoch: int) -> Freeze:
        """What is frozen in that epoch."""
        return self.policies[max(start for start in self.policies if start <= epoch)]

    def setup(self, trainer: Any, model: Any, stage: str) -> None:
        """Freeze before DDP looks at the parameters. Raises UserError where a policy does not fit the encoder."""
        for policy in self.policies.values():
            frozen_modules(encoder_of(model), policy)
        never = [epoch for epoch in self.policies if 0 <= trainer.max_epochs <= epoch > 0]
        if never:
            self.journal.warning("unfreeze: epoch %d never comes, the last is %d", never[0], trainer.max_epochs - 1)
        self._learnable = [p for p in model.parameters() if p.requires_grad]
        self._freeze(model, self.policy(max(self.policies)))
        self._thawing = [p for p in self._learnable if p.requires_grad]
        self.trainable = sum(p.numel() for p in self._thawing)
        self._hold(trainer, model)

    def on_train_epoch_start(self, trainer: Any, model: Any) -> None:
        """Freeze what this epoch keeps, thaw the rest."""
        self._hold(trainer, model)
        epoch = trainer.current_epoch
        if epoch in self.policies and self.policies != {0: "none"}:
            count = sum(p.numel() for p in self._learnable if p.requires_grad) - sum(p.numel() for p in self._held)
            frozen = written(self.policy(epoch))
            self.journal.info("from epoch %d on frozen: %s; %.2f M trained", epoch + 1, frozen, count / 1e6)

    def on_before_optimizer_step(self, trainer: Any, model: Any, optimizer: Any) -> None:
        """Without a gradient the optimiser moves nothing, not even by weight decay."""
        for parameter in self._held:
            parameter.grad = None

    def _hold(self, trainer: Any, model: Any) -> None:
        self._freeze(model, self.policy(trainer.current_epoch))
        self._held = []
        if trainer.world_size > 1:
            # DDP averages only what needed a gradient when it was set up, so what thaws later has one from the start
            self._held = [p for p in self._thawing if not p.requires_grad]
            for parameter in self._held:
                parameter.requires_grad_(True)

    def _freeze(self, model: Any, policy: Freeze) -> None:
        for parameter in self._learnable:
            parameter.requires_grad_(True)
        encoder_of(model).train()
        apply_freeze(model, policy, self.batch_norm)

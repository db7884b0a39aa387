"""Lightning callback: an exponential moving average of the weights, which is what is validated, chosen and saved.

NeMo's own callback (`nemo.collections.common.callbacks.EMA`) puts a wrapper around the optimiser and keeps the average
in checkpoints of its own that only the ModelCheckpoint of NeMo's exp_manager knows how to pair and to read. Here the
average is a callback's state in Lightning's ordinary checkpoint, and so it survives a resume.
"""

from collections.abc import Mapping
from typing import Any

from lightning.pytorch.callbacks import Callback


class EmaWeights(Callback):  # type: ignore[misc]  # lightning is untyped here
    """After each optimiser step t: average = Σ decay^(t-i) · weights_i / Σ decay^(t-i), i = 1 … t.

    That is the usual average = decay · average + (1 - decay) · weights with the start's bias taken out, as Adam does
    it (Kingma and Ba 2015, section 3): the random weights before the first step do not count, and a short training
    needs no smaller decay. What batch normalisation has counted is averaged like the weights that it belongs to;
    whole numbers are taken as they are.

    While the model is validated it holds the average, so that `dev_wer` and the choice of the best epoch are its own.
    """

    def __init__(self, decay: float) -> None:
        self.decay = decay
        self.updates = 0
        self.average: dict[str, Any] = {}  # name in the model's state -> tensor
        self._live: dict[str, Any] = {}  # the same of the model itself
        self._step = 0

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {"updates": self.updates, "average": self.average}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """What a resumed training goes on from."""
        self.updates, self.average = state["updates"], dict(state["average"])

    def on_train_start(self, trainer: Any, model: Any) -> None:
        """Find the model's tensors, which keep their places from here on."""
        self._live = model.state_dict()
        self.average = {name: self.average.get(name, live).to(live, copy=True) for name, live in self._live.items()}
        self._step = trainer.global_step

    def on_train_batch_end(self, trainer: Any, model: Any, outputs: Any, batch: Any, index: int) -> None:
        """Count a step of the optimiser; with accumulated gradients not every batch is one."""
        if trainer.global_step != self._step:
            self._step = trainer.global_step
            self.update()

    def update(self) -> None:
        """Take the weights of now into the average."""
        import torch
        from torch.optim.swa_utils import get_ema_multi_avg_fn

        self.updates += 1
        corrected = self.decay * (1 - self.decay ** (self.updates - 1)) / (1 - self.decay**self.updates)
        real = [name for name, live in self._live.items() if live.is_floating_point()]
        with torch.no_grad():
            get_ema_multi_avg_fn(corrected)([self.average[n] for n in real], [self._live[n] for n in real], None)
            for name in self._live.keys() - set(real):
                self.average[name].copy_(self._live[name])

    def on_validation_start(self, trainer: Any, model: Any) -> None:
        """Validate the average."""
        self._swap()

    def on_validation_end(self, trainer: Any, model: Any) -> None:
        """Go on with the weights themselves."""
        self._swap()

    def _swap(self) -> None:
        import torch

        with torch.no_grad():
            for name, live in self._live.items() if self.updates else ():
                kept = live.clone()
                live.copy_(self.average[name])
                self.average[name].copy_(kept)


def ema_weights(checkpoint: Mapping[str, Any]) -> dict[str, Any] | None:
    """The average in a checkpoint of Lightning's; None where none was kept."""
    state = checkpoint.get("callbacks", {}).get(EmaWeights.__name__)
    return None if state is None else dict(state["average"])

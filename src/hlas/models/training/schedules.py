"""Learning-rate schedules that a YAML names in `model.optim.sched` and NeMo does not know."""

from typing import Any

from nemo.core.config.schedulers import SchedulerParams
from nemo.core.optim.lr_scheduler import AVAILABLE_SCHEDULERS, register_scheduler
from torch.optim.lr_scheduler import OneCycleLR


class OneCycle(OneCycleLR):  # type: ignore[misc]  # torch is untyped here
    """torch's OneCycleLR (Smith and Topin 2017, arXiv:1708.07120), its peak being `optim.lr` as in all of NeMo's.

    `max_steps`, the optimiser's steps in the whole training, is what NeMo hands to every schedule; the other keys are
    torch's: pct_start, div_factor, final_div_factor, anneal_strategy, cycle_momentum, three_phase …
    """

    def __init__(self, optimizer: Any, *, max_steps: int, last_epoch: int = -1, **keys: Any) -> None:
        peaks = [group["lr"] for group in optimizer.param_groups]
        super().__init__(optimizer, max_lr=peaks, total_steps=max_steps, last_epoch=last_epoch, **keys)

    def get_lr(self) -> list[Any]:
        """The rates of the next step; after the last one they stay, where torch's formula would rise again."""
        if self.last_epoch >= self.total_steps:
            return [group["min_lr"] for group in self.optimizer.param_groups]
        return list(super().get_lr())


def register_schedules() -> None:
    """Let NeMo know them by their names; a second call does nothing."""
    if "OneCycleLR" not in AVAILABLE_SCHEDULERS:
        register_scheduler("OneCycleLR", OneCycle, SchedulerParams)

"""What is stepped at the end of an epoch: schedules that wait for a plateau of what was measured on dev."""

from dataclasses import replace

import pytest

from hlas.models.training.optim_keys import MEASURED
from hlas.stage import Input
from train_kit import Lab, curve, params


@pytest.mark.parametrize("monitor", sorted(set(MEASURED) - {"val_loss"}))  # test_optimisation.py has that one
def test_a_plateau_may_be_one_of_all_that_is_measured(lab: Lab, tokenizer: Input, monitor: str) -> None:
    never = {"threshold": 1e9, "threshold_mode": "abs"}  # no epoch after the first improves by so much
    sched = {"name": "ReduceLROnPlateau", "monitor": monitor, "factor": 0.5, "patience": 0, **never}
    given = params(epochs=3)
    given = replace(given, model=given.model | {"optim": {"name": "adamw", "lr": 0.01, "sched": sched}})
    lab.train(f"train-{monitor}", given, tokenizer)
    assert len({row["learning_rate"] for row in curve(lab.store / f"train-{monitor}")}) > 1

"""Learning rates over the steps, as NeMo and Lightning set them from a YAML's `optim`; clipping and accumulation."""

import inspect
import logging
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hlas.models import train_stage
from hlas.models.nemo_quiet import import_asr
from hlas.models.training.optim_keys import OPTIMISERS, SCHEDULES, check_optim, never_warm
from hlas.tokenizers import stage as tokenizer_stage
from train_kit import LOG, Lab, curve, params

STEPS, WARM, LR, LEAST = 40, 8, 0.01, 0.001


def rates(optimiser: str, sched: dict[str, Any], steps: int = STEPS, lr: float = LR) -> list[float]:
    """The learning rate of every step 0 … steps, from NeMo's own setup_optimization."""
    import_asr()
    import lightning.pytorch as lightning
    import torch
    from nemo.core.classes import ModelPT
    from omegaconf import OmegaConf

    from hlas.models.training.schedules import register_schedules

    class Tiny(ModelPT):  # type: ignore[misc]  # NeMo is untyped here
        def __init__(self, cfg: Any, trainer: Any) -> None:
            super().__init__(cfg, trainer)
            self.layer = torch.nn.Linear(2, 2)

        def setup_training_data(self, config: Any) -> None: ...

        def setup_validation_data(self, config: Any) -> None: ...

        @classmethod
        def list_available_models(cls) -> list[Any]:
            return []

    register_schedules()
    check_optim({"name": optimiser, "lr": lr, "sched": sched})
    config = OmegaConf.create({"optim": {"name": optimiser, "lr": lr, "sched": sched}})
    trainer = lightning.Trainer(max_steps=steps, accelerator="cpu", logger=False, enable_checkpointing=False)
    model = Tiny(config, trainer)
    optimizer, schedule = model.setup_optimization(config.optim)
    assert schedule["interval"] == "step"
    out = []
    for _ in range(steps):
        out.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule["scheduler"].step()
    return [*out, optimizer.param_groups[0]["lr"]]


def warm(then: Callable[[int], float], through: int = WARM) -> Callable[[int], float]:
    """NeMo's linear warm-up, which counts steps from 1 and reaches the rate at its last step."""
    return lambda step: LR * (step + 1) / (WARM + 1) if step <= through else then(step)


def cosine(step: int) -> float:
    return LEAST + (LR - LEAST) * (1 + math.cos(math.pi * (step - WARM) / (STEPS - WARM))) / 2


def linear(step: int) -> float:
    return LEAST + (LR - LEAST) * (STEPS - step) / (STEPS - WARM)


def noam(step: int) -> float:
    """Vaswani et al. 2017, equation 3, times `lr`; not below the least rate once it falls."""
    step = max(1, step)
    rate = LR * 64**-0.5 * min(step**-0.5, step * WARM**-1.5)
    return max(rate, 1e-5) if step > WARM else rate


def plateau_then_linear(step: int) -> float:
    """Warm-up, ten steps on the plateau, decay to the least rate."""
    end = WARM + 10
    return LR if step < end else LR - (LR - LEAST) * (step - end) / (STEPS - end)


def plateau_then_root(step: int) -> float:
    end = WARM + 10
    return LR if step < end else max(LEAST, LR * (1 - math.sqrt((step - end) / (STEPS - end))))


def hold_then_noam(step: int) -> float:
    return LR if step < WARM + 10 else max(LEAST, LR * WARM**0.5 / (step - 10) ** 0.5)


def one_cycle(step: int) -> float:
    """Up from a 25th in the first 30 % of the steps, down to a 250,000th by the last, both along a cosine."""
    low, end, top = LR / 25, LR / 25 / 1e4, 0.3 * STEPS - 1
    if step <= top:
        return low + (LR - low) * (1 - math.cos(math.pi * step / top)) / 2
    return end + (LR - end) * (1 + math.cos(math.pi * (step - top) / (STEPS - 1 - top))) / 2


WARMED = {"warmup_steps": WARM, "min_lr": LEAST}
CASES: dict[str, tuple[str, dict[str, Any], Callable[[int], float]]] = {
    "cosine": ("novograd", {"name": "CosineAnnealing", **WARMED}, warm(cosine)),
    "cosine by ratio": ("novograd", {"name": "CosineAnnealing", "warmup_ratio": 0.2, "min_lr": LEAST}, warm(cosine)),
    "noam": ("adamw", {"name": "NoamAnnealing", "d_model": 64, "warmup_steps": WARM, "min_lr": 1e-5}, noam),
    "linear": ("adamw", {"name": "WarmupAnnealing", **WARMED}, warm(linear)),
    "linear as polynomial": ("adamw", {"name": "PolynomialDecayAnnealing", "power": 1.0, **WARMED}, warm(linear)),
    "warm-up, plateau, linear": (
        "adamw",
        {"name": "WarmupHoldAnnealLinear", "hold_steps": 10, **WARMED},
        warm(plateau_then_linear),
    ),
    "warm-up, plateau, root": (
        "adamw",
        {"name": "WarmupHoldAnnealOneMinusSquareRoot", "hold_ratio": 0.25, **WARMED},
        warm(plateau_then_root),
    ),
    "warm-up, plateau, Noam": (
        "adamw",
        {"name": "NoamHoldAnnealing", "hold_steps": 10, **WARMED},
        warm(hold_then_noam),
    ),
    "warm-up, plateau": ("adamw", {"name": "WarmupPolicy", "warmup_steps": WARM}, warm(lambda step: LR)),
    "one cycle": ("adamw", {"name": "OneCycleLR"}, one_cycle),
    "one cycle under Novograd": ("novograd", {"name": "OneCycleLR", "pct_start": 0.3}, one_cycle),
}


@pytest.mark.parametrize(("optimiser", "sched", "formula"), CASES.values(), ids=CASES)
def test_the_rate_is_that_of_the_formula(
    optimiser: str, sched: dict[str, Any], formula: Callable[[int], float]
) -> None:
    found = rates(optimiser, sched)
    assert found[:-1] == pytest.approx([formula(step) for step in range(STEPS)], rel=1e-6)
    assert found[-1] <= found[-2]  # the rate after the last step, which the curve shows


def test_names_are_nemos() -> None:
    import_asr()
    from nemo.core.optim.lr_scheduler import AVAILABLE_SCHEDULERS
    from nemo.core.optim.optimizers import AVAILABLE_OPTIMIZERS

    from hlas.models.training.schedules import register_schedules

    register_schedules()
    register_schedules()  # twice is as good as once
    assert set(SCHEDULES) == set(AVAILABLE_SCHEDULERS)
    assert set(OPTIMISERS) <= set(AVAILABLE_OPTIMIZERS)
    assert "max_steps" in inspect.signature(AVAILABLE_SCHEDULERS["OneCycleLR"]).parameters  # NeMo asks for it so


@pytest.mark.parametrize(
    ("optim", "problem"),
    [
        ({"name": "novgrad"}, r"optim\.name: no optimiser 'novgrad'; did you mean 'novograd'"),
        ({"lr": 0}, r"optim\.lr: 0 is no learning rate"),
        ({"lr": None}, r"optim\.lr: None"),
        ({"sched": "CosineAnnealing"}, r"optim\.sched is not a mapping"),
        ({"sched": {"name": "CosineAnealing"}}, "no schedule 'CosineAnealing'; did you mean 'CosineAnnealing'"),
        ({"sched": {"name": "NoamAnnealing"}}, "NoamAnnealing needs d_model"),
        ({"sched": {"name": "ReduceLROnPlateau"}}, "needs monitor, e.g. monitor: val_loss"),
        ({"sched": {"name": "WarmupPolicy", "warmup_steps": 1, "warmup_ratio": 0.1}}, "say the same thing"),
        ({"sched": {"name": "CosineAnnealing", "warmup_ratio": 10}}, "warmup_ratio 10 is a share"),
    ],
)
def test_what_nemo_would_stumble_over_later_is_refused_now(optim: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        check_optim({"name": "adamw", "lr": 0.01, **optim})


def test_a_warm_up_that_never_ends_is_told() -> None:
    assert "set model.optim.sched.warmup_steps to a tenth, 50" in never_warm({"warmup_steps": 10000}, 500)
    assert never_warm({"warmup_steps": 499}, 500) == never_warm({"warmup_ratio": 0.9}, 500) == never_warm({}, 500) == ""


# --- through the train stage


def trained(lab: Lab, name: str, optim: dict[str, Any], epochs: int, train_ds: dict[str, Any], **trainer: Any) -> Path:
    given = params(epochs, **trainer)
    model = given.model | {"optim": optim, "train_ds": given.model["train_ds"] | train_ds}
    lab.train(name, train_stage.Params(model, given.trainer, seed=1), lab.tokenizer(tokenizer_stage.Params("char")))
    return lab.store / name


@pytest.mark.parametrize("train_ds", [{"batch_size": 3}, {"batch_size": 3, "batch_duration": 60.0}])
def test_by_epochs_the_rate_reaches_its_end_with_the_last_step(lab: Lab, train_ds: dict[str, Any]) -> None:
    """Eight utterances in batches of three, of which two make a step: 3 batches, 2 steps an epoch, 8 steps in all."""
    optim = {"name": "novograd", "lr": LR, "sched": {"name": "CosineAnnealing", "min_lr": 0.0}}
    folder = trained(lab, f"train-cosine{len(train_ds)}", optim, 4, train_ds, accumulate_grad_batches=2)
    rows = curve(folder)
    assert [row["step"] for row in rows] == [2, 4, 6, 8]
    expected = [LR * (1 + math.cos(math.pi * step / 8)) / 2 for step in (2, 4, 6, 8)]
    assert [row["learning_rate"] for row in rows] == pytest.approx(expected, abs=1e-9)


def test_one_cycle_lasts_as_long_as_the_training(lab: Lab) -> None:
    optim = {"name": "adamw", "lr": LR, "sched": {"name": "OneCycleLR"}}
    rows = curve(trained(lab, "train-cycle", optim, 5, {"batch_size": 4}))
    assert [row["step"] for row in rows] == [2, 4, 6, 8, 10]
    assert rows[0]["learning_rate"] == pytest.approx(LR)  # 30 % of 10 steps, counted from 0, end at step 2
    assert rows[-2]["learning_rate"] > rows[-1]["learning_rate"] == pytest.approx(LR / 25 / 1e4)


def test_on_a_plateau_the_rate_is_lowered(lab: Lab) -> None:
    never = {"threshold": 1e9, "threshold_mode": "abs"}  # no epoch after the first improves by so much
    sched = {"name": "ReduceLROnPlateau", "monitor": "val_loss", "factor": 0.5, "patience": 0, **never}
    rows = curve(trained(lab, "train-plateau", {"name": "adamw", "lr": LR, "sched": sched}, 5, {"batch_size": 4}))
    halves = [LR / 2**times for times in range(5)]
    # an epoch's line may stand before its lowering or after it
    assert [row["learning_rate"] for row in rows] in (pytest.approx([LR, *halves[:4]]), pytest.approx(halves))


def test_a_plateau_is_one_of_validations(lab: Lab) -> None:
    """Dev is heard in every second epoch, and the rate is lowered there alone."""
    sched = {"name": "ReduceLROnPlateau", "monitor": "val_loss", "factor": 0.5, "patience": 0, "threshold": 1e9}
    optim = {"name": "adamw", "lr": LR, "sched": sched | {"threshold_mode": "abs"}}
    rows = curve(trained(lab, "train-second", optim, 6, {"batch_size": 4}, check_val_every_n_epoch=2))
    # the first value is the best so far; an epoch's line may stand before its lowering or after it
    lowered = ([LR] * 4 + [LR / 2] * 2, [LR] * 3 + [LR / 2] * 2 + [LR / 4])
    assert [row["learning_rate"] for row in rows] in lowered


def test_no_schedule_is_a_constant_rate(lab: Lab) -> None:
    rows = curve(trained(lab, "train-constant", {"name": "adamw", "lr": LR, "sched": None}, 2, {"batch_size": 4}))
    assert [row["learning_rate"] for row in rows] == [LR, LR]


def test_a_warm_up_longer_than_the_training_is_in_its_log(lab: Lab, caplog: pytest.LogCaptureFixture) -> None:
    sched = {"name": "CosineAnnealing", "warmup_steps": 10000}
    with caplog.at_level(logging.WARNING, logger="hlas"):
        trained(lab, "train-cold", {"name": "novograd", "lr": LR, "sched": sched}, 1, {"batch_size": 4})
    assert "the training has 2 steps, its warm-up 10000" in caplog.text


def first_norm(lab: Lab, name: str, **trainer: Any) -> float:
    """The norm of all gradients that Novograd saw in its first step.

    Its second moments begin as the squared norms of the layers; the gradients themselves it overwrites.
    """
    import_asr()
    from lightning.pytorch.callbacks import Callback

    from hlas.models.training.build import build_model
    from hlas.models.training.fit import make_trainer, set_length, train
    from hlas.models.training.job import Fit
    from hlas.models.training.loading import attach_loaders
    from hlas.models.training.screening import screen
    from hlas.models.training.workers import Team

    found: list[float] = []

    class Probe(Callback):  # type: ignore[misc]  # lightning is untyped here
        def on_train_start(self, trainer: Any, model: Any) -> None:
            def after_step(optimizer: Any, args: Any, kwargs: Any) -> None:
                found.append(math.sqrt(sum(float(state["exp_avg_sq"]) for state in optimizer.state.values())))

            trainer.optimizers[0].register_step_post_hook(after_step)

    folder = lab.store / name
    folder.mkdir()
    given = params(2, **trainer)
    from hlas.models.training.validation import DevTranscripts

    labels = tokenizer_stage.read_labels(lab.tokenizer(tokenizer_stage.Params("char")).path)
    manifests = (lab.split(split).path for split in ("train", "dev"))
    job = Fit(given.model, given.trainer, "32-true", 1, *manifests, labels, folder)
    loop = make_trainer(job, Team(), DevTranscripts(labels), [Probe()], LOG)
    model = build_model(job, loop)
    attach_loaders(model, job, screen(model, job, LOG), 0, 1, LOG)
    set_length(loop, model, job, LOG)
    train(loop, model, folder)
    assert model.cfg.optim.name == "novograd"
    return found[0]


def test_gradients_are_clipped_before_novograd_sees_them(lab: Lab) -> None:
    assert first_norm(lab, "train-free") > 0.6
    assert first_norm(lab, "train-clipped", gradient_clip_val=0.5) == pytest.approx(0.5, rel=1e-3)

"""`model.optim` of a YAML, checked before anything is built: names, and the keys that a schedule cannot do without."""

from collections.abc import Mapping
from typing import Any

from hlas.errors import did_you_mean

OPTIMISERS = (
    "adadelta",
    "adafactor",
    "adagrad",
    "adam",
    "adamax",
    "adamw",
    "adan",
    "novograd",
    "rmsprop",
    "rprop",
    "sgd",
)
# NeMo's own; OneCycleLR is torch's, see schedules.py
SCHEDULES = (
    "CosineAnnealing",
    "CyclicLR",
    "ExponentialLR",
    "InverseSquareRootAnnealing",
    "NoamAnnealing",
    "NoamHoldAnnealing",
    "OneCycleLR",
    "PolynomialDecayAnnealing",
    "PolynomialHoldDecayAnnealing",
    "ReduceLROnPlateau",
    "SquareAnnealing",
    "SquareRootAnnealing",
    "StepLR",
    "T5InverseSquareRootAnnealing",
    "WarmupAnnealing",
    "WarmupHoldAnnealLinear",
    "WarmupHoldAnnealOneMinusSquareRoot",
    "WarmupHoldPolicy",
    "WarmupPolicy",
)
NEEDED: Mapping[str, tuple[tuple[str, ...], str]] = {  # one of these keys, and an example
    "NoamAnnealing": (("d_model",), "d_model: ${model.encoder.d_model}"),
    "NoamHoldAnnealing": (("warmup_steps", "warmup_ratio"), "warmup_steps: 1000"),
    "ReduceLROnPlateau": (("monitor",), "monitor: val_loss"),
    "StepLR": (("step_size",), "step_size: 1000"),
    "ExponentialLR": (("gamma",), "gamma: 0.95"),
    "CyclicLR": (("base_lr",), "base_lr: 0.0001 and max_lr: 0.01"),
}
MEASURED: Mapping[str, str] = {  # on dev, in every validation: what a plateau may be one of -> its name in the log
    "val_loss": "val_loss",
    "val_wer": "dev_wer",  # NeMo's own is a mean over the processes, and a Whisper has none
    "dev_wer": "dev_wer",
    "dev_cer": "dev_cer",
}
EXCLUSIVE = (
    ("warmup_steps", "warmup_ratio"),
    ("hold_steps", "hold_ratio"),
    ("constant_steps", "constant_ratio"),
)


def check_optim(optim: Mapping[str, Any]) -> None:
    """Raise ValueError naming the first key that NeMo would stumble over once the model is built, or pass over."""
    name = str(optim.get("name"))
    if name not in OPTIMISERS:
        raise ValueError(f"model.optim.name: no optimiser '{name}'; {did_you_mean(name, OPTIMISERS)}")
    _check_rate("model.optim.lr", optim.get("lr"))
    sched = optim.get("sched")
    if sched is None:
        return
    if not isinstance(sched, dict):
        raise ValueError("model.optim.sched is not a mapping with a name")
    schedule = str(sched.get("name"))
    here = "model.optim.sched"
    if schedule not in SCHEDULES:
        raise ValueError(f"{here}.name: no schedule '{schedule}'; {did_you_mean(schedule, SCHEDULES)}")
    keys, example = NEEDED.get(schedule, ((), ""))
    if keys and all(sched.get(key) is None for key in keys):
        raise ValueError(f"{here}: {schedule} needs {' or '.join(keys)}, e.g. {example}")
    if schedule == "ReduceLROnPlateau" and (monitor := str(sched["monitor"])) not in MEASURED:
        raise ValueError(f"{here}.monitor: '{monitor}' is not measured on dev; {did_you_mean(monitor, MEASURED)}")
    for _, ratio in EXCLUSIVE:
        if not 0 <= (sched.get(ratio) or 0) <= 1:
            raise ValueError(f"{here}.{ratio} {sched[ratio]} is a share of the training, from 0 to 1")
    for steps, _ in EXCLUSIVE:
        if (count := sched.get(steps)) is not None and (isinstance(count, bool) or not isinstance(count, int)):
            raise ValueError(f"{here}.{steps}: {count!r} is not a number of optimiser steps")
    for one, other in EXCLUSIVE:
        if sched.get(one) is not None and sched.get(other) is not None:
            raise ValueError(f"{here}: {one} and {other} say the same thing; leave one out")


def check_groups(groups: Any) -> None:
    """Raise ValueError where `model.optim_param_groups` is no mapping of the model's parts to the optimiser's keys."""
    if not isinstance(groups, dict) or not all(isinstance(keys, dict) for keys in groups.values()):
        raise ValueError(
            "model.optim_param_groups is a mapping of parts (encoder, decoder) to their keys: {lr: …}, or {}"
        )
    for part, keys in groups.items():
        if "lr" in keys:
            _check_rate(f"model.optim_param_groups.{part}.lr", keys["lr"])


def _check_rate(where: str, rate: Any) -> None:
    if isinstance(rate, bool) or not isinstance(rate, int | float) or rate <= 0:
        raise ValueError(f"{where}: {rate!r} is no learning rate above 0")


def never_warm(sched: Mapping[str, Any], steps: int) -> str:
    """What to warn of where a training of so many optimiser steps ends before its warm-up does; else ''."""
    warm_up = sched.get("warmup_steps")
    if warm_up is None or warm_up < steps:
        return ""
    return (
        f"the training has {steps} steps, its warm-up {warm_up}: it ends before the learning rate is reached; "
        f"set model.optim.sched.warmup_steps to a tenth, {max(1, steps // 10)}"
    )

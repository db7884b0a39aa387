"""Noise and rooms in training: the sets that `train` reads, put into NeMo's own `model.train_ds.augmentor`.

NeMo draws with Python's `random`, which the stage's seed starts: the same seed gives the same noisy clips.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hlas.errors import UserError

# Input of the stage -> NeMo's perturbation and what it does unless the model's YAML says otherwise. A room comes
# before the noise, which is not in it; its delay is taken off, or the clip's end would be cut.
PERTURBATIONS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "rooms": ("impulse", {"prob": 0.3, "shift_impulse": True}),
    "noise": ("noise", {"prob": 0.5, "min_snr_db": 5.0, "max_snr_db": 30.0}),
}


def check_augmentor(train_ds: Mapping[str, Any]) -> None:
    """Raise ValueError where an augmentor names files: those are inputs of the stage, whose content counts."""
    augmentor = train_ds.get("augmentor") or {}
    if not isinstance(augmentor, dict) or not all(isinstance(keys, dict) for keys in augmentor.values()):
        raise ValueError("model.train_ds.augmentor is not a mapping of names to their keys")
    of_inputs = {name for name, _ in PERTURBATIONS.values()}
    for name, keys in augmentor.items():
        here = f"model.train_ds.augmentor.{name}"
        for key in keys:
            if "manifest_path" in key or "tar_filepath" in key:
                fix = "give the stage the inputs noise: augment.noise and rooms: augment.rooms instead"
                raise ValueError(f"{here}.{key} names files; {fix}")
        if "prob" not in keys and name not in of_inputs:
            raise ValueError(f"{here}.prob is missing: NeMo's share of the clips that it is applied to")


def with_sets(train_ds: Mapping[str, Any], sets: Mapping[str, Path]) -> dict[str, Any]:
    """`train_ds` with the manifests of the inputs 'noise' and 'rooms' in its augmentor; UserError where they clash."""
    given = dict(train_ds.get("augmentor") or {})
    if sets and train_ds.get("use_lhotse"):
        problem = "NeMo's lhotse loader knows no augmentor, and would leave noise and rooms out without a word"
        raise UserError("train: model.train_ds.use_lhotse", problem, "set use_lhotse: false, or train without them")
    augmentor = {}
    for key, (name, defaults) in PERTURBATIONS.items():
        own = given.pop(name, None)
        if key in sets:
            augmentor[name] = {**defaults, **(own or {}), "manifest_path": str(sets[key])}
        elif own is not None:
            fix = f"give the stage {key}: augment.{key}, or remove the key"
            raise UserError(f"train: model.train_ds.augmentor.{name}", f"the stage reads no {key}", fix)
    augmentor |= given
    return {**train_ds, "augmentor": augmentor} if augmentor else dict(train_ds)

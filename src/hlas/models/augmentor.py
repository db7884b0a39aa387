"""What a model hears in training beside the clips as they are: `model.train_ds.augmentor`, in NeMo's own keys.

Noise and rooms are sets that `train` reads as inputs; `with_sets` puts their manifests in. NeMo draws with Python's and
numpy's random numbers, which the train stage starts from its seed: the same seed gives the same clips.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hlas.errors import UserError, did_you_mean

# Input of the stage -> NeMo's perturbation and what it does unless the model's YAML says otherwise. A room comes
# before the noise, which is not in it; its delay is taken off, or the clip's end would be cut.
PERTURBATIONS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "rooms": ("impulse", {"prob": 0.3, "shift_impulse": True}),
    "noise": ("noise", {"prob": 0.5, "min_snr_db": 5.0, "max_snr_db": 30.0}),
}

# Name -> keys beside `prob`; all are NeMo's but `pitch`, which is in pitch.py
KEYS: Mapping[str, tuple[str, ...]] = {
    "speed": ("sr", "resample_type", "min_speed_rate", "max_speed_rate", "num_rates"),
    "time_stretch": ("min_speed_rate", "max_speed_rate", "num_rates", "n_fft"),
    "pitch": ("min_semitones", "max_semitones"),
    "gain": ("min_gain_dbfs", "max_gain_dbfs"),
    "shift": ("min_shift_ms", "max_shift_ms"),
    "silence": (
        "min_start_silence_secs",
        "max_start_silence_secs",
        "min_end_silence_secs",
        "max_end_silence_secs",
        "value",
    ),
    "impulse": ("normalize_impulse", "shift_impulse"),
    "noise": ("min_snr_db", "max_snr_db", "max_gain_db"),
    "white_noise": ("min_level", "max_level"),
    "transcode_aug": ("codecs",),
}
REFUSED: Mapping[str, str] = {
    "noise_norm": "take noise",
    "rir_noise_aug": "take impulse and noise",
    "random_segment": "none: it cuts a clip whose text stays whole",
}
DEFAULT_RATES = (0.9, 1.1)  # of NeMo's speed and time_stretch
_FFT = ("fft", "scipy")  # resamplers of NeMo's speed that need no package beside it


def check_augmentor(train_ds: Mapping[str, Any]) -> None:
    """Raise ValueError where an augmentor would not do what its YAML says, or names files.

    Files are inputs of the stage, whose content counts.
    """
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
        if name in REFUSED:
            raise ValueError(f"{here} is not for this stage; in its place: {REFUSED[name]}")
        if name not in KEYS:
            raise ValueError(f"{here}: no such perturbation; {did_you_mean(name, KEYS)}")
        for key in keys:
            if key not in (*KEYS[name], "prob"):
                raise ValueError(f"{here}.{key}: no such key; {did_you_mean(key, (*KEYS[name], 'prob'))}")
        if "prob" not in keys and name not in of_inputs:
            raise ValueError(f"{here}.prob is missing: NeMo's share of the clips that it is applied to")
        for key, value in keys.items():
            limit = key == "prob" or key.startswith(("min_", "max_"))
            if limit and (isinstance(value, bool) or not isinstance(value, int | float)):
                raise ValueError(f"{here}.{key}: {value!r} is not a number")
        if not 0 <= keys.get("prob", 0) <= 1:
            raise ValueError(f"{here}.prob {keys['prob']} is a share, from 0 to 1")
        _check_values(here, name, keys)
        for least, most in ((key, key.replace("min_", "max_", 1)) for key in keys if key.startswith("min_")):
            if most in keys and keys[least] > keys[most]:
                raise ValueError(f"{here}: {least} {keys[least]} lies above {most} {keys[most]}")


def _check_values(here: str, name: str, keys: Mapping[str, Any]) -> None:
    """Values with which NeMo would do nothing, or fail in the middle of an epoch."""
    if (resampler := keys.get("resample_type", "fft")) not in _FFT:
        problem = "needs the package resampy, without which NeMo leaves every clip as it is"
        raise ValueError(f"{here}.resample_type: '{resampler}' {problem}; leave the key out, or set it to fft")
    if keys.get("num_rates") == 0:
        raise ValueError(f"{here}.num_rates 0 draws nothing; -1 draws any rate between the two, 5 one of five")
    if name in ("speed", "time_stretch") and not 0 < _rates(keys)[0] <= _rates(keys)[1]:
        raise ValueError(f"{here}: rates run from min_speed_rate, above 0, up to max_speed_rate")
    if name == "white_noise" and not int(keys.get("min_level", -90)) < int(keys.get("max_level", -46)):
        raise ValueError(f"{here}: min_level lies below max_level (whole dB, of which NeMo draws one below max_level)")


def with_sets(train_ds: Mapping[str, Any], sets: Mapping[str, Path], sample_rate_hz: int = 16000) -> dict[str, Any]:
    """`train_ds` with what its augmentor needs to know beside the YAML.

    The manifests of the inputs 'noise' and 'rooms', and for `speed` the sample rate and a resampler that is there.
    Raises UserError where the inputs and the YAML clash.
    """
    given = dict(train_ds.get("augmentor") or {})
    if (sets or given) and train_ds.get("use_lhotse"):
        problem = "NeMo's lhotse loader knows no augmentor, and would leave it out without a word"
        raise UserError("train: model.train_ds.use_lhotse", problem, "set use_lhotse: false, or train without it")
    augmentor = {}
    for key, (name, defaults) in PERTURBATIONS.items():
        own = given.pop(name, None)
        if key in sets:
            augmentor[name] = {**defaults, **(own or {}), "manifest_path": str(sets[key])}
        elif own is not None:
            fix = f"give the stage {key}: augment.{key}, or remove the key"
            raise UserError(f"train: model.train_ds.augmentor.{name}", f"the stage reads no {key}", fix)
    if "speed" in given:
        given["speed"] = {"sr": sample_rate_hz, "resample_type": "fft", **given["speed"]}
    augmentor |= given
    return {**train_ds, "augmentor": augmentor} if augmentor else dict(train_ds)


def length_factors(train_ds: Mapping[str, Any]) -> tuple[float, float]:
    """By how much the augmentor can shorten and lengthen a clip, e.g. (0.9, 1.1); (1, 1) where it does neither.

    NeMo's `speed` multiplies the length by its rate, `time_stretch` divides it. What `silence` adds is not counted.
    """
    augmentor = {name: keys for name, keys in (train_ds.get("augmentor") or {}).items() if keys.get("prob")}
    shortest = longest = 1.0
    if "speed" in augmentor:
        low, high = _rates(augmentor["speed"])
        shortest, longest = shortest * min(low, 1.0), longest * max(high, 1.0)
    if "time_stretch" in augmentor:
        low, high = _rates(augmentor["time_stretch"])
        shortest, longest = shortest / max(high, 1.0), longest / min(low, 1.0)
    return shortest, longest


def _rates(keys: Mapping[str, Any]) -> tuple[float, float]:
    low, high = DEFAULT_RATES
    return float(keys.get("min_speed_rate", low)), float(keys.get("max_speed_rate", high))

"""Keys of `model` and `trainer` in a YAML, checked before anything is built: what nothing would read is refused.

NeMo passes over a key that it does not know, and Lightning fails on one in the middle of its own code. Keys of
`_target_` classes and of optimisers are checked by those, when they are built.
"""

import difflib
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from hlas.errors import UserError, did_you_mean
from hlas.models.augmentor import PERTURBATIONS, with_sets

MODEL = (
    "ctc_reduction",
    "decoder",
    "decoding",
    "encoder",
    "interctc",
    "labels",
    "log_prediction",
    "model_defaults",
    "optim",
    "optim_param_groups",
    "preprocessor",
    "sample_rate",
    "spec_augment",
    "test_ds",
    "tokenizer",
    "train_ds",
    "use_cer",
    "validation_ds",
)
DATASET = (
    "augmentor",
    "batch_duration",  # and num_buckets: of hlas's loader, by the names of NeMo's lhotse loader
    "batch_size",
    "channel_selector",
    "drop_last",
    "int_values",
    "labels",
    "manifest_filepath",
    "max_duration",
    "min_duration",
    "normalize_transcripts",
    "num_buckets",
    "num_workers",
    "parser",
    "pin_memory",
    "sample_rate",
    "shuffle",
    "trim_silence",
    "use_start_end_token",
)
# Keys of train_ds that ask for a loader of NeMo's own, whose order and random state are NeMo's
NEMO_LOADERS = ("use_lhotse", "is_tarred", "use_dali", "is_concat", "is_code_switched", "use_semi_sorted_batching")
TRAINER = (
    "accelerator",
    "accumulate_grad_batches",
    "benchmark",
    "check_val_every_n_epoch",
    "detect_anomaly",
    "deterministic",
    "devices",
    "enable_model_summary",
    "enable_progress_bar",
    "gradient_clip_algorithm",
    "gradient_clip_val",
    "limit_train_batches",
    "limit_val_batches",
    "log_every_n_steps",
    "max_epochs",
    "max_steps",
    "max_time",
    "min_epochs",
    "min_steps",
    "num_nodes",
    "num_sanity_val_steps",
    "overfit_batches",
    "profiler",
    "strategy",
    "sync_batchnorm",
    "val_check_interval",
)
# Keys of the stage's own, which `model` would keep as values that nothing reads
BESIDE = (
    "exp_manager",
    "freeze",
    "freeze_batch_norm",
    "init",
    "keep_decoder_rows",
    "keep_outputs",
    "precision",
    "pretrained",
    "seed",
    "trainer",
    "unfreeze",
)
# What NeMo's YAMLs or Lightning have, and the stage does in another way
ELSEWHERE: Mapping[str, str] = {
    "model.freeze_updates": "see the stage's own freeze and unfreeze",
    "model.init_from_nemo_model": "see the stage's own init",
    "model.init_from_pretrained_model": "see the stage's own pretrained",
    "model.init_from_ptl_ckpt": "see the stage's own init",
    "model.skip_nan_grad": "a loss that is no number ends the training, with the batch named",
    **dict.fromkeys((f"model.{key}" for key in BESIDE), "it is a key of the stage itself, beside model and trainer"),
    "trainer.callbacks": "a YAML names no classes",
    "trainer.default_root_dir": "it is the stage's folder",
    "trainer.enable_checkpointing": "see exp_manager.checkpoint_callback_params",
    "trainer.fast_dev_run": "for a quick check set manifests.limit and trainer.max_epochs",
    "trainer.logger": "see exp_manager.create_tensorboard_logger and its like",
    "trainer.precision": "it is a key of the stage itself, beside model and trainer",
}
PARTS: Mapping[str, str] = {  # that a model is built of, and a class of each
    "preprocessor": "nemo.collections.asr.modules.AudioToMelSpectrogramPreprocessor",
    "spec_augment": "nemo.collections.asr.modules.SpectrogramAugmentation",
    "encoder": "nemo.collections.asr.modules.ConvASREncoder",
    "decoder": "nemo.collections.asr.modules.ConvASRDecoder",
}
SIZES: Mapping[str, type[int] | type[float]] = {  # of a dataset, and the numbers that they are
    "batch_size": int,
    "batch_duration": float,
    "num_buckets": int,
    "num_workers": int,
    "max_duration": float,
    "min_duration": float,
}
MAY_BE_0 = ("num_workers", "min_duration")
WHOLE = ("max_epochs", "max_steps", "accumulate_grad_batches", "check_val_every_n_epoch", "log_every_n_steps")


def check_keys(model: Mapping[str, Any], trainer: Mapping[str, Any]) -> None:
    """Raise ValueError naming the first key that is unknown, or belongs elsewhere, or a number that makes no sense."""
    for name, value in model.items():
        # NeMo's own YAMLs keep values there that others refer to (repeat, dropout): any name for those
        if name not in MODEL and (isinstance(value, dict) or difflib.get_close_matches(name, MODEL, cutoff=0.8)):
            _refuse("model", name, MODEL)
        if value:
            _refuse_elsewhere("model", name)
    for section in ("train_ds", "validation_ds", "test_ds"):
        check_dataset(f"model.{section}", model.get(section) or {})
    _check_sample_rates(model)
    check_trainer(trainer)


def check_parts(model: Mapping[str, Any]) -> None:
    """Raise ValueError naming the first part of the model that names no class: NeMo would take it for a whole model."""
    for part, example in PARTS.items():
        config = model.get(part)
        if config is None:
            continue
        if not isinstance(config, dict):
            raise ValueError(f"model.{part} is not a mapping of a class's arguments")
        if "_target_" not in config:
            raise ValueError(f"model.{part}._target_ is missing: the class that it is built of, e.g. {example}")


def check_sets(train_ds: Mapping[str, Any], inputs: Collection[str]) -> Iterator[UserError]:
    """What the augmentor and the stage's inputs of noise and rooms are only together, as a stage's check_inputs."""
    try:
        with_sets(train_ds, {name: Path(name) for name in PERTURBATIONS if name in inputs})
    except UserError as error:
        yield UserError(error.where.removeprefix("train: "), error.problem, error.fix)


def check_trainer(trainer: Mapping[str, Any]) -> None:
    """Raise ValueError naming the first of Lightning's keys that is unknown, or belongs elsewhere."""
    for name in trainer:
        _refuse_elsewhere("trainer", name)
        if name not in TRAINER:
            _refuse("trainer", name, TRAINER)
    _check_lengths(trainer)


def _refuse(section: str, name: str, known: Iterable[str]) -> None:
    raise ValueError(f"{section}.{name}: no key that this stage knows; {did_you_mean(name, known)}")


def _refuse_elsewhere(section: str, name: str) -> None:
    if fix := ELSEWHERE.get(f"{section}.{name}"):
        raise ValueError(f"{section}.{name} is not for this stage; {fix}")


def check_dataset(section: str, config: Any) -> None:
    """Raise ValueError naming the first key of train_ds or validation_ds that nothing would read."""
    if not isinstance(config, dict):
        raise ValueError(f"{section} is not a mapping")
    if config.get("manifest_filepath") is not None:
        raise ValueError(f"{section}.manifest_filepath is not for this stage; it reads its inputs train and dev")
    for name, kind in SIZES.items():
        if (value := config.get(name)) is None:
            continue
        if isinstance(value, bool) or not isinstance(value, (kind, int)):
            raise ValueError(f"{section}.{name}: {value!r} is not a {'whole ' if kind is int else ''}number")
        if value < 0 or (value == 0 and name not in MAY_BE_0):
            raise ValueError(f"{section}.{name}: {value!r} is not {'0 or more' if name in MAY_BE_0 else 'above 0'}")
    if any(config.get(name) for name in NEMO_LOADERS):
        return  # those have many more keys
    for name, value in config.items():
        if name not in (*DATASET, *NEMO_LOADERS) and value is not None:
            _refuse(section, name, DATASET)


def _check_sample_rates(model: Mapping[str, Any]) -> None:
    """The clips are read at `model.sample_rate`; features and data that believe in another rate are of other sounds."""
    rate = model.get("sample_rate", 16000)
    for section in ("preprocessor", "train_ds", "validation_ds"):
        if (other := (model.get(section) or {}).get("sample_rate", rate)) != rate:
            raise ValueError(f"model.{section}.sample_rate {other} is not model.sample_rate {rate}; set both")


def _check_lengths(trainer: Mapping[str, Any]) -> None:
    """A training that never begins, never ends, or never looks at dev."""
    for name in WHOLE:
        value, endless = trainer.get(name, 1), name.startswith("max_")
        if isinstance(value, bool) or not isinstance(value, int) or (value < 1 and not (endless and value == -1)):
            also = ", or -1 for no limit" if endless else ""
            raise ValueError(f"trainer.{name}: {value!r} is not a whole number from 1 on{also}")
    if max(trainer.get("max_epochs", -1), trainer.get("max_steps", -1)) < 0:
        raise ValueError("trainer.max_epochs or trainer.max_steps is missing: the training would never end")
    for name in ("limit_train_batches", "limit_val_batches", "val_check_interval"):
        value = trainer.get(name, 1)
        share = isinstance(value, float) and 0 < value <= 1
        if isinstance(value, bool) or not (share or (isinstance(value, int) and value >= 1)):
            raise ValueError(
                f"trainer.{name}: {value!r} is neither a share above 0 and up to 1.0 nor a number of batches"
            )

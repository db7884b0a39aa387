"""Keys and values of a model's YAML that nothing would read, or that fail later, are refused with one line."""

import inspect
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from hlas.errors import UserError
from hlas.models import train_stage
from hlas.models.nemo_quiet import import_asr
from hlas.models.training.known_keys import BESIDE, DATASET, MODEL, TRAINER, check_keys
from hlas.models.training.options import MAX_SEED
from hlas.recipe import load_recipe
from hlas.stage import Input
from train_kit import Lab, curve, params

OWN = {"batch_duration", "num_buckets"}  # of hlas's loader


def test_the_keys_are_those_that_are_read() -> None:
    asr = import_asr()
    from lightning.pytorch import Trainer
    from nemo.collections.asr.data import audio_to_text_dataset
    from nemo.collections.asr.parts.mixins import ASRBPEMixin, InterCTCMixin
    from nemo.core import ModelPT

    models = (asr.models.EncDecCTCModel, asr.models.EncDecCTCModelBPE, ModelPT, ASRBPEMixin, InterCTCMixin)
    model_code = "".join(map(inspect.getsource, models))
    data_code = inspect.getsource(audio_to_text_dataset) + model_code
    assert set(BESIDE) == {field.name for field in fields(train_stage.Params)} - {"model", "name"} | {"init"}
    values = {"model_defaults"}  # what the other sections refer to
    assert [key for key in MODEL if key not in model_code and key not in values] == []
    assert [key for key in DATASET if key not in data_code and key not in OWN] == []
    assert set(TRAINER) <= set(inspect.signature(Trainer.__init__).parameters)


def plateau(monitor: str) -> dict[str, Any]:
    """`optim` whose rate is lowered where that does not become better."""
    return {"name": "adamw", "lr": 0.01, "sched": {"name": "ReduceLROnPlateau", "monitor": monitor}}


def warm(steps: Any) -> dict[str, Any]:
    """`optim` with so many steps of warm-up."""
    return {"name": "adamw", "lr": 0.01, "sched": {"name": "CosineAnnealing", "warmup_steps": steps}}


@pytest.mark.parametrize(
    ("model", "trainer", "problem"),
    [
        ({"spec_augmnt": {"freq_masks": 2}}, {}, r"model\.spec_augmnt: no key .* did you mean 'spec_augment'"),
        ({"sample_rte": 8000}, {}, "did you mean 'sample_rate'"),
        ({"init_from_nemo_model": "x.nemo"}, {}, "see the stage's own init"),
        ({"train_ds": {"batchsize": 4}}, {}, r"model\.train_ds\.batchsize: .*did you mean 'batch_size'"),
        ({"train_ds": {"batch_size": "four"}}, {}, "batch_size: 'four' is not a whole number"),
        ({"train_ds": {"batch_size": 2.5}}, {}, "batch_size: 2.5 is not a whole number"),
        ({"train_ds": {"batch_size": 0}}, {}, r"model\.train_ds\.batch_size: 0 is not above 0"),
        ({"validation_ds": {"batch_size": -1}}, {}, r"model\.validation_ds\.batch_size: -1 is not above 0"),
        ({"train_ds": {"batch_duration": 0.0}}, {}, "batch_duration: 0.0 is not above 0"),
        ({"train_ds": {"num_workers": -1}}, {}, "num_workers: -1 is not 0 or more"),
        ({"validation_ds": {"manifest_filepath": "dev.jsonl"}}, {}, "reads its inputs"),
        ({"validation_ds": [1]}, {}, r"model\.validation_ds is not a mapping"),
        ({"sample_rate": 8000}, {}, r"model\.preprocessor\.sample_rate 16000 is not model\.sample_rate 8000"),
        ({"train_ds": {"sample_rate": 8000}}, {}, r"train_ds\.sample_rate 8000"),
        ({"skip_nan_grad": True}, {}, "ends the training"),
        ({"preprocessor": {"features": 64}}, {}, r"model\.preprocessor\._target_ is missing: .*AudioToMelSpectrogram"),
        ({"encoder": {"feat_in": 64}}, {}, r"model\.encoder\._target_ is missing: .*ConvASREncoder"),
        ({"decoder": {"feat_in": 64}}, {}, r"model\.decoder\._target_ is missing: .*ConvASRDecoder"),
        ({"spec_augment": {"freq_masks": 2}}, {}, r"model\.spec_augment\._target_ is missing: .*SpectrogramAugm"),
        ({"spec_augment": {}}, {}, r"model\.spec_augment\._target_ is missing"),
        ({"spec_augment": ["freq_masks"]}, {}, r"model\.spec_augment is not a mapping"),
        ({"optim": plateau("dev_per")}, {}, r"optim\.sched\.monitor: 'dev_per' is not measured on dev; did you mean"),
        ({"optim": plateau("x")}, {}, "'x' is not measured on dev; one of: dev_cer, dev_wer, val_loss, val_wer"),
        ({}, {"max_epoch": 3}, r"trainer\.max_epoch: .*did you mean 'max_epochs'"),
        ({"freeze": "encoder"}, {}, r"model\.freeze is not for this stage; it is a key of the stage itself"),
        ({}, {"precision": 16}, r"trainer\.precision is not for this stage; it is a key of the stage itself"),
        ({}, {"logger": False}, "create_tensorboard_logger"),
        ({}, {"max_epochs": 0}, r"max_epochs: 0 is not a whole number from 1 on, or -1"),
        ({}, {"max_steps": 0}, "max_steps: 0"),
        ({}, {"max_epochs": -1}, "the training would never end"),
        ({}, {"accumulate_grad_batches": {0: 2}}, r"accumulate_grad_batches: \{0: 2\} is not a whole number"),
        ({}, {"log_every_n_steps": "abc"}, "log_every_n_steps: 'abc' is not a whole number"),
        ({"optim": warm("abc")}, {}, r"sched\.warmup_steps: 'abc' is not a number of optimiser steps"),
        ({}, {"check_val_every_n_epoch": None}, "check_val_every_n_epoch: None"),
        ({}, {"limit_val_batches": 0}, "limit_val_batches: 0 is neither a share"),
        ({}, {"limit_train_batches": 1.5}, "limit_train_batches: 1.5"),
    ],
)
def test_what_would_be_passed_over_or_fail_later_is_refused(
    model: dict[str, Any], trainer: dict[str, Any], problem: str
) -> None:
    given = params()
    with pytest.raises(ValueError, match=problem):
        train_stage.Params({**given.model, **model, **_with_batches(given, model)}, {"max_epochs": 2, **trainer})


def _with_batches(given: train_stage.Params, model: dict[str, Any]) -> dict[str, Any]:
    """`train_ds` with the kit's own keys beside those of the case."""
    return {"train_ds": {**given.model["train_ds"], **model.get("train_ds", {})}}


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_a_seed_that_numpy_does_not_take_is_refused(seed: int) -> None:
    assert replace(params(), seed=MAX_SEED).seed == 2**32 - 1
    with pytest.raises(ValueError, match=f"seed {seed} is not from 0 to 4294967295"):
        replace(params(), seed=seed)


RECIPE = """
name: x
language: manifests/languages/en.yaml
stages:
  manifests: {spec: manifests/common_voice.yaml, release: data/x}
  tokenizer: {spec: tokenizers/char.yaml, text: manifests.train}
  train:
    spec: models/quartznet_mini.yaml
    train: manifests.train
    dev: manifests.dev
    tokenizer: tokenizer
    rooms: data/rooms.jsonl
    model: {train_ds: {augmentor: {impulse: {prob: 0.5}, noise: {prob: 0.5}}}}
"""


def test_noise_without_the_input_noise_is_told_before_anything_runs(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(RECIPE, encoding="utf-8")
    with pytest.raises(UserError) as error:
        load_recipe(path)
    (told,) = error.value.errors
    assert told.problem == "train.model.train_ds.augmentor.noise: the stage reads no noise"
    assert told.fix == "give the stage noise: augment.noise, or remove the key"
    path.write_text(RECIPE.replace("rooms: data", "noise: data/noise.jsonl\n    rooms: data"), encoding="utf-8")
    assert set(load_recipe(path).stage("train").inputs) >= {"noise", "rooms"}


def test_values_that_others_refer_to_and_nemos_own_loaders_have_any_keys() -> None:
    model: dict[str, Any] = {"sample_rate": 16000, "repeat": 5, "model_defaults": {"separable": True}}
    check_keys(model, {"max_epochs": 1})
    check_keys({"train_ds": {"use_lhotse": True, "quadratic_duration": 15, "batch_duration": 60}}, {"max_steps": 1})
    check_keys({"test_ds": {"manifest_filepath": None}}, {"max_epochs": -1, "max_steps": 9, "val_check_interval": 0.5})


def changed(section: str, **keys: Any) -> Callable[[train_stage.Params], train_stage.Params]:
    def change(given: train_stage.Params) -> train_stage.Params:
        return replace(given, model={**given.model, section: {**given.model.get(section, {}), **keys}})

    return change


def trainer(**keys: Any) -> Callable[[train_stage.Params], train_stage.Params]:
    return lambda given: replace(given, trainer=given.trainer | keys)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (changed("encoder", feat_inn=1), r"train: model: .*unexpected keyword argument 'feat_inn'"),
        (changed("optim", name="adamw", betas=[0.9]), r"train: model\.optim: "),
        (changed("optim", weight_deacy=1), r"train: model\.optim: .*'weight_deacy'"),
        (changed("optim", sched={"name": "CosineAnnealing", "warmup_step": 1}), r"model\.optim: .*'warmup_step'"),
        (changed("optim_param_groups", encoderr={}), r"model\.optim: encoderr not found"),
        (changed("optim_param_groups", encoder={"lrr": 1}), r"encoder\.lrr: no setting .*\n.*did you mean 'lr'"),
        (changed("train_ds", drop_last=True, batch_size=9), "not one batch is full"),
        (trainer(gradient_clip_algorithm="norms"), r"train: trainer: .*norms"),
        (trainer(check_val_every_n_epoch=3), "dev is heard every 3 epochs, and the training has 2"),
        (changed("decoder", feat_in=17), r"train: model: does not run: .*channels"),
        (trainer(limit_val_batches=0.1), r"train: trainer: .*limit_val_batches"),
        (trainer(limit_train_batches=0.1), "limit_train_batches: 0.1 leaves no batch"),
        (trainer(val_check_interval=3), "val_check_interval: 3 batches, where an epoch has 2"),
    ],
)
def test_what_only_the_built_model_shows_is_told_before_it_is_trained(
    lab: Lab, tokenizer: Input, tmp_path: Path, change: Callable[[train_stage.Params], train_stage.Params], problem: str
) -> None:
    with pytest.raises(UserError, match=problem):
        lab.train(f"train-{tmp_path.name}", change(params()), tokenizer)
    assert not (lab.store / f"train-{tmp_path.name}" / "curve.jsonl").exists()


def test_an_encoder_that_refuses_its_values_says_so_itself(lab: Lab, tokenizer: Input) -> None:
    given = params()
    target = "hlas.models.modules.whisper_encoder.WhisperEncoder"
    wrong = replace(given, model={**given.model, "encoder": {"_target_": target, "size": "bases"}})
    with pytest.raises(UserError, match=r"did you mean 'base'") as error:
        lab.train("train-size", wrong, tokenizer)
    assert error.value.where == "WhisperEncoder size 'bases'"


def test_parts_have_learning_rates_of_their_own(lab: Lab, tokenizer: Input) -> None:
    """The encoder's is so small that its weights hardly move; the curve shows the other."""
    from hlas.models.nemo_ctc import CtcModel

    given = changed("optim_param_groups", encoder={"lr": 1e-12}, decoder={})(params(epochs=4))
    given = changed("optim", name="adamw", lr=0.01, weight_decay=0.0)(given)
    lab.train("train-whole", params(epochs=1), tokenizer)
    start = lab.store / "train-whole" / "model.nemo"
    lab.train("train-groups", given, tokenizer, init=start)
    states = [CtcModel.load(lab.store / name / "model.nemo", "cpu").model for name in ("train-whole", "train-groups")]
    before, after = (dict(model.named_parameters()) for model in states)
    moved = {name: float((after[name] - before[name]).abs().max()) for name in before}
    assert max(moved[name] for name in moved if name.startswith("encoder.")) < 1e-9
    assert min(moved[name] for name in moved if name.startswith("decoder.")) > 1e-3
    assert curve(lab.store / "train-groups")[0]["learning_rate"] > 1e-3


def test_accumulated_batches_count_with_their_whole_loss(lab: Lab, tokenizer: Input) -> None:
    """At so small a learning rate nothing is learnt, and the loss is the same however steps are made of the batches."""
    losses = []
    for batches in (1, 2):
        given = changed("optim", lr=1e-12)(params(epochs=1, accumulate_grad_batches=batches))
        lab.train(f"train-by-{batches}", given, tokenizer)
        losses.append(curve(lab.store / f"train-by-{batches}")[0]["train_loss"])
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)

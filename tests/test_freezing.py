"""Freezing: what stays as it is, bit for bit, while a tiny QuartzNet and a tiny Conformer are really trained."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from freezing_kit import QUARTZNET, changed, quartznet, trained
from hlas.errors import UserError, UserErrors
from hlas.inputs import Edge
from hlas.models.freezing import Freeze, apply_freeze, parts_of
from hlas.models.training.build import build_model
from hlas.models.training.unfreezing import Unfreezing
from hlas.recipe import load_recipe
from hlas.tokenizers import stage as tokenizer_stage
from train_kit import LOG, Lab, conformer, fit_job, params

MODELS = {"quartznet": quartznet, "conformer": conformer}


CONFORMER = ["encoder.pre_encode.conv", "encoder.pre_encode.out", "encoder.layers.0", "encoder.layers.1"]


LAST: Freeze = {"encoder_except_last": 1}


@pytest.mark.parametrize(
    ("name", "freeze", "moves"),
    [
        ("quartznet", "none", QUARTZNET),
        ("quartznet", "encoder", []),
        ("quartznet", LAST, QUARTZNET[4:]),
        ("quartznet", {"encoder_except_last": 3}, QUARTZNET[2:]),
        ("quartznet", "feature_encoder", QUARTZNET[2:]),
        ("conformer", "none", CONFORMER),
        ("conformer", "encoder", []),
        ("conformer", LAST, CONFORMER[3:]),
        ("conformer", "feature_encoder", CONFORMER[2:]),
    ],
)
def test_what_is_frozen_keeps_every_bit_and_the_rest_moves(
    lab: Lab, name: str, freeze: Freeze, moves: list[str]
) -> None:
    given = MODELS[name]()
    given.model["optim"]["weight_decay"] = 0.1  # would move what has no gradient, were it not skipped
    freezing = Unfreezing(freeze, {}, False, LOG)
    record = trained(lab, given, freezing, epochs=2)
    assert changed(record.states) == {"decoder", *moves}
    parts = {*QUARTZNET, *CONFORMER} & record.training[-1].keys()
    assert {part for part in parts if record.training[-1][part]} == set(moves) & parts  # also after a validation
    whole = sum(value.numel() for value in record.states[0].values())
    assert freezing.trainable < whole if freeze != "none" else freezing.trainable > 0


def test_frozen_dropout_is_off_and_a_module_around_trained_ones_is_in_their_mode(lab: Lab) -> None:
    given = quartznet()
    for block in given.model["encoder"]["jasper"]:
        block["dropout"] = 0.5
    model = build_model(fit_job(lab, given), None)
    apply_freeze(model, LAST)
    on = {name.split(".")[1] for name, module in model.encoder.named_modules() if "Dropout" in repr(type(module))}
    assert on == {"0", "1", "2", "3", "4"}
    on = {name.split(".")[1] for name, m in model.encoder.named_modules() if "Dropout" in repr(type(m)) and m.training}
    assert on == {"4"}
    assert model.encoder.training
    assert not model.encoder.encoder[3].training


@pytest.mark.parametrize("name", MODELS)
def test_batch_normalisation_can_be_kept_alone(lab: Lab, name: str) -> None:
    record = trained(lab, MODELS[name](), Unfreezing("none", {}, True, LOG), epochs=1)
    free = trained(lab, MODELS[name](), Unfreezing("none", {}, False, LOG), epochs=1)
    norms = {key.rpartition(".")[0] + "." for key in free.states[0] if key.endswith("running_mean")}
    assert norms
    for states, moves in ((record.states, False), (free.states, True)):
        kept = [key for key in states[0] if key.startswith(tuple(norms))]
        assert {leaf.rpartition(".")[2] for leaf in kept} >= {"weight", "bias", "running_mean", "running_var"}
        assert any(not states[0][key].equal(states[-1][key]) for key in kept) == moves
    assert "encoder" in {key.split(".")[0] for key in changed(record.states)}


def test_more_blocks_than_there_are(lab: Lab) -> None:
    for given, blocks in ((quartznet(), 3), (conformer(), 2)):
        model = build_model(fit_job(lab, given), None)
        apply_freeze(model, {"encoder_except_last": blocks})
        with pytest.raises(UserError, match=f"has {blocks} blocks"):
            apply_freeze(model, {"encoder_except_last": blocks + 1})


def test_an_encoder_whose_blocks_are_not_known_is_frozen_whole_or_not_at_all() -> None:
    import torch

    model = torch.nn.Module()
    model.encoder = torch.nn.Linear(2, 2)
    apply_freeze(model, "none")
    with pytest.raises(UserError, match="the blocks of a Linear are not known"):
        apply_freeze(model, "feature_encoder")
    assert model.encoder.weight.requires_grad
    apply_freeze(model, "encoder")
    assert not model.encoder.weight.requires_grad


def test_whispers_parts_are_those_of_its_encoder() -> None:
    from transformers import WhisperConfig, WhisperForConditionalGeneration

    config = WhisperConfig(
        d_model=16, encoder_layers=3, decoder_layers=1, encoder_attention_heads=2, decoder_attention_heads=2,
        encoder_ffn_dim=8, decoder_ffn_dim=8, vocab_size=60, pad_token_id=1, bos_token_id=2, eos_token_id=3,
        decoder_start_token_id=2, max_source_positions=10, max_target_positions=10,
    )  # fmt: skip
    model = WhisperForConditionalGeneration(config)
    apply_freeze(model, {"encoder_except_last": 1})
    encoder = model.get_encoder()
    trained_ones = {
        name.split(".")[0] + name.split(".")[1] for name, p in encoder.named_parameters() if p.requires_grad
    }
    assert trained_ones == {"layers2", "layer_normweight", "layer_normbias"}
    assert all(parameter.requires_grad for parameter in model.get_decoder().layers.parameters())


def test_our_own_encoders_have_parts() -> None:
    from hlas.models.modules.transformer_encoder import TransformerEncoder
    from hlas.models.modules.whisper_encoder import WhisperEncoder

    plain = parts_of(TransformerEncoder(feat_in=16, n_layers=3, d_model=16, n_heads=2))
    whisper = parts_of(WhisperEncoder("tiny", pretrained=False))
    assert (len(plain.blocks), len(plain.features), len(plain.after)) == (3, 1, 1)
    assert (len(whisper.blocks), len(whisper.features), len(whisper.after)) == (4, 3, 1)


def test_a_citrinets_later_strides_are_blocks(lab: Lab) -> None:
    given = quartznet()
    given.model["encoder"]["jasper"][3] |= {"stride": [2], "residual": True, "residual_mode": "stride_add"}
    parts = parts_of(build_model(fit_job(lab, given), None).encoder)
    assert (len(parts.features), len(parts.blocks)) == (2, 3)


RECIPE = """name: strategies
language: manifests/languages/en.yaml
stages:
  manifests: {spec: manifests/common_voice.yaml, release: ./no/such/release}
  tokenizer: {spec: tokenizers/char.yaml, text: manifests.train}
  train:
    spec: models/quartznet_mini.yaml
    train: manifests.train
    dev: manifests.dev
    tokenizer: tokenizer
    init: ./no/such/model.nemo
    foreach: {freeze: [none, encoder, {encoder_except_last: 2}]}
  logprobs: {acoustic: train, data: manifests.test}
  greedy: {uses: decode, logprobs: logprobs}
  report: {systems: greedy}
"""


def test_a_recipe_compares_strategies_in_one_report(tmp_path: Path) -> None:
    path = tmp_path / "trial.yaml"
    path.write_text(RECIPE, encoding="utf-8")
    recipe = load_recipe(path)
    policies = {stage.name: stage.params.freeze for stage in recipe.stages if stage.kind == "train"}
    names = [f"train@freeze={name}" for name in ("none", "encoder", "encoder_except_last_2")]
    assert policies == dict(zip(names, ("none", "encoder", {"encoder_except_last": 2}), strict=True))
    systems = tuple(Edge(name.replace("train", "greedy")) for name in names)
    assert recipe.stage("report").inputs["systems"] == systems
    schedule = "freeze: encoder\n    unfreeze: {5: {encoder_except_last: 2}, 10: none}"
    path.write_text(re.sub("foreach: .*", schedule, RECIPE), encoding="utf-8")
    assert load_recipe(path).stage("train").params.unfreeze == {5: {"encoder_except_last": 2}, 10: "none"}
    with pytest.raises(UserErrors, match=r"train: unfreeze: none from epoch 5 on trains no more than none"):
        load_recipe(path, ("train.freeze=none", "train.unfreeze={5: none}"))


def test_the_stage_freezes_and_says_how_much_it_trains(lab: Lab) -> None:
    from hlas.models.nemo_ctc import CtcModel

    tokenizer = lab.tokenizer(tokenizer_stage.Params("char"))
    whole = lab.train("train-whole", params(epochs=1), tokenizer)
    source = lab.store / "train-whole" / "model.nemo"
    with_frozen = replace(params(epochs=1), freeze="encoder")
    with pytest.raises(UserError, match="random weights"):
        lab.train("train-random", with_frozen, tokenizer)
    summary = lab.train("train-frozen", with_frozen, tokenizer, init=source)
    assert whole["trainable"] == whole["parameters"] == summary["parameters"]
    assert summary["trainable"] == 16 * 5 + 5  # the decoder's: four labels and the blank
    before, after = (CtcModel.load(path, "cpu").model for path in (source, lab.store / "train-frozen" / "model.nemo"))
    for name, value in before.encoder.state_dict().items():
        assert value.equal(after.encoder.state_dict()[name])
    assert not before.decoder.decoder_layers[0].weight.equal(after.decoder.decoder_layers[0].weight)

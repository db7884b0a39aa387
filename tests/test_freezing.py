"""Freezing: what stays as it is, bit for bit, while a tiny QuartzNet and a tiny Conformer are really trained."""

import copy
import json
import logging
import os
import re
import socket
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning.pytorch as lightning
import numpy as np
import pytest
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from omegaconf import OmegaConf

from hlas.errors import UserError, UserErrors
from hlas.inputs import Edge
from hlas.models.freezing import Freeze, apply_freeze, check_freeze, parts_of
from hlas.models.train_stage import Params
from hlas.models.training.build import build_model, model_config
from hlas.models.training.unfreezing import Unfreezing
from hlas.recipe import load_recipe
from hlas.tokenizers import stage as tokenizer_stage
from train_kit import LOG, Lab, conformer, fit_job, make_lab, params

States = list[dict[str, Any]]


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    return make_lab(tmp_path_factory.mktemp("store"))


def quartznet() -> Params:
    """A stem of two blocks that stride, and three blocks after it."""
    given = params()
    jasper = given.model["encoder"]["jasper"]
    given.model["encoder"]["jasper"] = [*jasper, jasper[2], jasper[2]]
    return given


MODELS = {"quartznet": quartznet, "conformer": conformer}


class Record(Callback):
    """The model's state before training and after every epoch, and whether its parts were in training mode."""

    def __init__(self) -> None:
        self.states: States = []
        self.training: list[dict[str, bool]] = []

    def on_train_start(self, trainer: Any, model: Any) -> None:
        self.states.append(copy.deepcopy(model.state_dict()))

    def on_train_batch_end(self, trainer: Any, model: Any, outputs: Any, batch: Any, index: int) -> None:
        if index == 0:
            self.training.append({name: module.training for name, module in model.named_modules()})

    def on_train_epoch_end(self, trainer: Any, model: Any) -> None:
        self.states.append(copy.deepcopy(model.state_dict()))


def trained(lab: Lab, given: Params, freezing: Unfreezing, epochs: int, **how: Any) -> Record:
    """A model after a real training, with validation, of so many epochs."""
    import torch

    torch.manual_seed(5)
    record = Record()
    callbacks = [freezing, record, *how.pop("callbacks", [])]
    trainer = lightning.Trainer(
        accelerator="cpu", max_epochs=epochs, callbacks=callbacks, logger=False,
        enable_checkpointing=any(isinstance(callback, ModelCheckpoint) for callback in callbacks),
        enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0,
    )  # fmt: skip
    job = fit_job(lab, given)
    model = build_model(job, trainer)
    data = OmegaConf.create(model_config(job))
    model.setup_training_data(data.train_ds)
    model.setup_validation_data(data.validation_ds)
    trainer.fit(model, **how)
    return record


def changed(states: States, since: int = 0) -> set[str]:
    """The parts (encoder.encoder.0, encoder.layers.1, decoder …) of which something changed, buffers counted."""
    before, after = states[since], states[-1]
    names = {name for name in after if not after[name].equal(before[name])}
    depth = {"encoder": 3, "decoder": 1}
    return {".".join(name.split(".")[: depth[name.split(".")[0]]]) for name in names}


QUARTZNET = [f"encoder.encoder.{i}" for i in range(5)]
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


SCHEDULE: dict[int, Freeze] = {1: {"encoder_except_last": 2}, 3: "none"}


@pytest.mark.parametrize("optim", ["novograd", "adamw"])
def test_unfreezing_by_epoch_and_the_same_after_a_resume(lab: Lab, tmp_path: Path, optim: str) -> None:
    given = quartznet()
    given.model["optim"] |= {"name": optim, "weight_decay": 0.1}
    given.model["optim"]["sched"]["max_steps"] = 100  # the same rates, whenever a training is killed
    record = trained(lab, given, Unfreezing("encoder", SCHEDULE, False, LOG), epochs=4)
    moved = [changed(record.states[: epoch + 1], epoch - 1) for epoch in (1, 2, 3, 4)]
    two = {"decoder", *QUARTZNET[3:]}
    assert moved == [{"decoder"}, two, two, {"decoder", *QUARTZNET}]
    for killed_after in (1, 3):  # at a change of what is frozen
        keep = ModelCheckpoint(dirpath=tmp_path / f"{optim}{killed_after}", save_last=True, save_top_k=0)
        trained(lab, given, Unfreezing("encoder", SCHEDULE, False, LOG), epochs=killed_after, callbacks=[keep])
        resumed = trained(
            lab, given, Unfreezing("encoder", SCHEDULE, False, LOG), epochs=4, ckpt_path=keep.last_model_path
        )
        states = resumed.states
        rest = [changed(states[: i + 1], i - 1) for i in range(1, len(states))]
        assert rest == moved[killed_after:]


class Line(lightning.LightningModule):
    """An encoder and a decoder of one linear layer each, trained on fixed numbers."""

    def __init__(self, rank: int, ranks: int) -> None:
        import torch

        super().__init__()
        torch.manual_seed(1)
        self.encoder, self.decoder = torch.nn.Linear(3, 3), torch.nn.Linear(3, 1)
        self.share = torch.randn(4, 8, 3).tensor_split(ranks, dim=1)[rank]  # four batches of eight
        self.states: States = []

    def train_dataloader(self) -> Any:
        import torch

        return torch.utils.data.DataLoader(self.share, batch_size=None)

    def training_step(self, batch: Any, index: int) -> Any:
        return (self.decoder(self.encoder(batch).tanh()) - batch[:, :1]).square().mean()

    def on_train_epoch_end(self) -> None:
        self.states.append({name: value.tolist() for name, value in self.state_dict().items()})

    def configure_optimizers(self) -> Any:
        import torch

        return torch.optim.AdamW(self.parameters(), lr=0.1, weight_decay=0.1)


def train_line(rank: int, ranks: int, folder: Path, port: int) -> None:
    """Train a Line in two epochs, the encoder from the second on, and write the weights after each."""
    launched = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": ranks, "LOCAL_WORLD_SIZE": ranks}
    meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "TORCHELASTIC_RUN_ID": "line", "GROUP_RANK": 0}
    if ranks > 1:
        os.environ |= {key: str(value) for key, value in (launched | meeting).items()}
    model = Line(rank, ranks)
    trainer = lightning.Trainer(
        accelerator="cpu", devices=ranks, strategy="ddp" if ranks > 1 else "auto", max_epochs=2, logger=False,
        callbacks=[Unfreezing("encoder", {1: "none"}, False, LOG)], use_distributed_sampler=False,
        gradient_clip_val=0.1, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(model)
    (folder / f"{rank}of{ranks}.json").write_text(json.dumps(model.states), encoding="utf-8")


def test_two_processes_thaw_as_one_does(tmp_path: Path) -> None:
    import torch

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    train_line(0, 1, tmp_path, 0)
    torch.multiprocessing.spawn(train_line, (2, tmp_path, port), nprocs=2)
    one, first, second = (
        json.loads((tmp_path / f"{name}.json").read_text(encoding="utf-8")) for name in ("0of1", "0of2", "1of2")
    )
    assert first == second
    for epoch in (0, 1):
        for name, value in one[epoch].items():
            np.testing.assert_allclose(first[epoch][name], value, rtol=1e-4, atol=1e-6)
    assert one[0]["encoder.weight"] == Line(0, 1).encoder.weight.tolist()
    assert one[1]["encoder.weight"] != one[0]["encoder.weight"]


def test_what_a_model_never_trains_is_not_thawed(lab: Lab) -> None:
    model = build_model(fit_job(lab, conformer()), None)
    model.encoder.layers[0].norm_out.requires_grad_(False)

    class Trainer:
        world_size, current_epoch, max_epochs = 1, 1, 2

    freezing = Unfreezing("encoder", {1: "none"}, False, LOG)
    freezing.setup(Trainer(), model, "fit")
    frozen = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
    assert frozen == {"encoder.layers.0.norm_out.weight", "encoder.layers.0.norm_out.bias"}


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


@pytest.mark.parametrize(
    ("freeze", "unfreeze", "problem"),
    [
        ({"encoder_except_last": 0}, {}, "at least 1"),
        ("encoder", {0: "none"}, "epoch 0 is not 1 or more"),
        ("none", {2: "none"}, "trains no more than none"),
        ({"encoder_except_last": 2}, {3: {"encoder_except_last": 2}}, "trains no more"),
        ("encoder", {3: {"encoder_except_last": 2}, 2: "none"}, "trains no more than none before it"),
        ("feature_encoder", {3: {"encoder_except_last": 20}}, "trains no more than feature_encoder"),
    ],
)
def test_a_schedule_only_thaws(freeze: Freeze, unfreeze: dict[int, Freeze], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        check_freeze(freeze, unfreeze)
    check_freeze(
        "encoder", {1: {"encoder_except_last": 1}, 2: {"encoder_except_last": 3}, 9: "feature_encoder", 10: "none"}
    )


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


def test_the_log_says_what_is_frozen(lab: Lab, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "hlas"):
        trained(lab, quartznet(), Unfreezing("encoder", {1: "none"}, False, LOG), epochs=2)
    assert [record.getMessage().rpartition(";")[0] for record in caplog.records] == [
        "from epoch 1 on frozen: encoder",
        "from epoch 2 on frozen: none",
    ]


def test_an_epoch_that_never_comes_is_told(lab: Lab, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "hlas"):
        trained(lab, quartznet(), Unfreezing("encoder", {1: "none"}, False, LOG), epochs=1)
    assert caplog.messages == ["unfreeze: epoch 1 never comes, the last is 0"]

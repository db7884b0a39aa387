"""Gradual unfreezing: what each epoch trains, also after a resume and in several processes."""

import json
import logging
import os
import socket
from pathlib import Path
from typing import Any

import lightning.pytorch as lightning
import numpy as np
import pytest
from lightning.pytorch.callbacks import ModelCheckpoint

from freezing_kit import QUARTZNET, States, changed, quartznet, trained
from hlas.models.freezing import Freeze, check_freeze
from hlas.models.training.build import build_model
from hlas.models.training.unfreezing import Unfreezing
from train_kit import LOG, Lab, conformer, fit_job

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


def test_the_log_says_what_is_frozen(lab: Lab, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "hlas"):
        freezing = Unfreezing("encoder", {1: {"encoder_except_last": 2}, 2: "none"}, False, LOG)
        trained(lab, quartznet(), freezing, epochs=3)
    assert [record.getMessage().rpartition(";")[0] for record in caplog.records] == [
        "from epoch 1 on frozen: encoder",
        "from epoch 2 on frozen: {encoder_except_last: 2}",
        "from epoch 3 on frozen: none",
    ]


def test_an_epoch_that_never_comes_is_told(lab: Lab, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "hlas"):
        trained(lab, quartznet(), Unfreezing("encoder", {1: "none"}, False, LOG), epochs=1)
    assert caplog.messages == ["unfreeze: epoch 1 never comes, the last is 0"]

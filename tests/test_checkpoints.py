"""Which weights a training keeps, averages, chooses and saves, and when it stops."""

import json
import logging
import math
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from hlas.errors import UserError
from hlas.models.nemo_ctc import CtcModel
from hlas.models.train_stage import Params
from hlas.models.training.checkpoint_files import WholeFiles
from hlas.models.training.checkpoints import (
    average,
    best_checkpoints,
    checkpoint_callbacks,
    choose_weights,
    last_checkpoint,
    weights_of,
)
from hlas.models.training.ema import EmaWeights
from hlas.models.training.options import CheckpointOptions, EarlyStopping, Ema, Experiment, Monitor
from hlas.tokenizers import stage as tokenizer_stage
from train_kit import LOG, Lab, curve, killed_in, params

DECAY = 0.8


class Tiny(LightningModule):  # type: ignore[misc]  # lightning is untyped here
    """A line through noise, with batch normalisation; `wers` and `losses` are its WER and loss on dev of each epoch."""

    def __init__(self, wers: tuple[float, ...] = (), losses: tuple[float, ...] = ()) -> None:
        super().__init__()
        self.layers = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4), torch.nn.Linear(4, 1))
        self.wers, self.losses = wers, losses
        self.history: list[dict[str, Tensor]] = []  # after each optimiser step
        self.validated: list[dict[str, Tensor]] = []

    def training_step(self, batch: list[Tensor], index: int) -> Tensor:
        return (self.layers(batch[0]) - batch[1]).pow(2).mean()

    def validation_step(self, batch: list[Tensor], index: int) -> None:
        if index == 0:
            self.validated.append(copied(self))
        loss = (self.layers(batch[0]) - batch[1]).pow(2).mean()
        self.log("val_loss", torch.tensor(self.losses[self.trainer.current_epoch]) if self.losses else loss)
        wer = self.wers[self.trainer.current_epoch] if self.trainer.state.fn == "fit" else 0.35
        self.log("dev_wer", torch.tensor(wer))

    def on_train_batch_end(self, outputs: Any, batch: Any, index: int) -> None:
        if (index + 1) % self.trainer.accumulate_grad_batches == 0:
            self.history.append(copied(self))

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9)

    def loader(self) -> Any:
        rng = torch.Generator().manual_seed(5)
        inputs = torch.randn(24, 3, generator=rng)
        return DataLoader(TensorDataset(inputs, inputs.sum(1, keepdim=True)), batch_size=4)

    train_dataloader = val_dataloader = loader


def copied(model: Any) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def tiny(wers: tuple[float, ...]) -> Tiny:
    torch.manual_seed(1)
    return Tiny(wers)


def fitted(folder: Path, model: Tiny, experiment: Experiment, **trainer: Any) -> Trainer:
    folder.mkdir(exist_ok=True)
    made = Trainer(
        **{"max_epochs": len(model.wers), "accelerator": "cpu", "logger": False, **trainer},
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        callbacks=checkpoint_callbacks(folder, experiment, LOG, blank_at_first=True),
    )
    last = last_checkpoint(folder)
    made.fit(model, ckpt_path=str(last) if last else None)
    return made


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_the_best_k_and_the_last_epoch_are_kept_and_the_best_is_chosen(tmp_path: Path) -> None:
    model = tiny((0.9, 0.5, 0.7, 0.4, 0.8))
    experiment = Experiment(CheckpointOptions(save_top_k=3))
    trainer = fitted(tmp_path, model, experiment)
    assert [saved.epoch for saved in best_checkpoints(tmp_path, "val_wer")] == [3, 1, 2]
    at_epoch = model.history[5::6]
    chosen = choose_weights(trainer, model, tmp_path, experiment, LOG)
    assert (chosen.weights, chosen.best.epoch, dict(chosen.dev_wers)) == ("best", 3, {"best": 0.4})
    assert same(copied(model), at_epoch[3])
    assert [saved.epoch for saved in chosen.others] == [1, 2]
    assert same(weights_of(chosen.others[0]), at_epoch[1])


def test_by_loss_if_asked(tmp_path: Path) -> None:
    model = tiny((0.5, 0.5, 0.5))
    fitted(tmp_path, model, Experiment(CheckpointOptions(monitor="val_loss", save_top_k=3)))
    saved = best_checkpoints(tmp_path, "val_loss")
    assert [s.val_loss for s in saved] == sorted(s.val_loss for s in saved)
    assert saved[0].val_loss < saved[-1].val_loss


@pytest.mark.parametrize(
    ("monitor", "top", "wers", "losses", "kept"),
    [
        ("val_wer", 1, (0.5, 0.5, 0.5, 0.6), (3, 1, 2, 0.5), [1]),
        ("val_wer", 1, (0.5, 0.5), (2, 2), [0]),  # equal in all: the earlier
        ("val_wer", 1, (0.5, 0.5), (math.nan, 2), [1]),
        ("val_wer", 2, (0.5, 0.5, 0.5), (1, 3, 2), [0, 2]),  # of two equal WERs, the one with the higher loss has to go
        ("val_wer", 2, (0.4, 0.5, 0.5), (9, 2, 1), [0, 2]),
        ("val_loss", 1, (0.6, 0.5, 0.7), (2, 2, 2), [1]),
    ],
)
def test_of_epochs_that_are_equal_in_what_is_monitored_the_other_measure_decides(
    tmp_path: Path, monitor: Monitor, top: int, wers: tuple[float, ...], losses: tuple[float, ...], kept: list[int]
) -> None:
    torch.manual_seed(1)
    model = Tiny(wers, losses)
    experiment = Experiment(CheckpointOptions(monitor=monitor, save_top_k=top))
    trainer = fitted(tmp_path, model, experiment)
    assert [saved.epoch for saved in best_checkpoints(tmp_path, monitor)] == kept
    choose_weights(trainer, model, tmp_path, experiment, LOG)
    assert same(copied(model), model.history[5::6][kept[0]])


def test_no_validated_epoch_is_a_user_error(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    with pytest.raises(UserError, match="no epoch was validated"):
        choose_weights(None, None, tmp_path, Experiment(), LOG)


@pytest.mark.parametrize(("best", "weights"), [(0.4, "average of 3"), (0.35, "average of 3"), (0.3, "best")])
def test_the_average_of_the_last_epochs_is_saved_where_it_is_no_worse(
    tmp_path: Path, best: float, weights: str
) -> None:
    model = tiny((0.9, best, 0.7, 0.8, 0.8))  # a validation outside a training says 0.35
    experiment = Experiment(average_last=3)
    trainer = fitted(tmp_path, model, experiment)
    at_epoch = model.history[5::6]
    chosen = choose_weights(trainer, model, tmp_path, experiment, LOG)
    assert chosen.weights == weights
    assert dict(chosen.dev_wers) == {"best": best, "average of 3": 0.35}
    mean = {
        name: torch.stack([at_epoch[e][name] for e in (2, 3, 4)]).double().mean(0).to(tensor.dtype)
        for name, tensor in at_epoch[4].items()
        if tensor.is_floating_point()
    }
    mean["layers.1.num_batches_tracked"] = at_epoch[4]["layers.1.num_batches_tracked"]
    assert same(model.validated[-1], mean)
    assert same(copied(model), at_epoch[1] if weights == "best" else mean)


def test_equal_weights_are_their_own_average(tmp_path: Path) -> None:
    weights = {"a": torch.tensor([0.1, 1 / 3, -7e-9]), "count": torch.tensor(5)}
    paths = [tmp_path / f"{i}.pt" for i in range(3)]
    for path in paths:
        torch.save(weights, path)
    assert same(average(paths), weights)


def test_ema_is_what_its_formula_says_and_what_is_validated_chosen_and_saved(tmp_path: Path) -> None:
    model = tiny((0.9, 0.4, 0.8))
    experiment = Experiment(ema=Ema(True, DECAY))
    trainer = fitted(tmp_path, model, experiment)
    chosen = choose_weights(trainer, model, tmp_path, experiment, LOG)
    assert (chosen.weights, chosen.best.epoch, dict(chosen.dev_wers)) == ("ema", 1, {"ema": 0.4})
    steps = model.history[:12]  # two epochs of six
    shares = torch.tensor([DECAY ** (len(steps) - 1 - i) for i in range(len(steps))], dtype=torch.float64)
    for name, tensor in copied(model).items():
        if tensor.is_floating_point():
            weighted = torch.stack([step[name].double() * share for step, share in zip(steps, shares, strict=True)])
            torch.testing.assert_close(tensor.double(), weighted.sum(0) / shares.sum(), rtol=1e-5, atol=1e-6)
            assert not torch.equal(tensor, steps[-1][name])
        else:
            assert torch.equal(tensor, steps[-1][name])
    assert same(model.validated[1], copied(model))


def test_ema_counts_steps_of_the_optimiser_and_leaves_the_training_as_it_is(tmp_path: Path) -> None:
    plain, averaged = tiny((0.5, 0.5)), tiny((0.5, 0.5))
    fitted(tmp_path / "plain", plain, Experiment(), accumulate_grad_batches=3)
    trainer = fitted(tmp_path / "ema", averaged, Experiment(ema=Ema(True, DECAY)), accumulate_grad_batches=3)
    (ema,) = (callback for callback in trainer.callbacks if isinstance(callback, EmaWeights))
    assert ema.updates == 4
    assert len(plain.history) == 4
    for one, other in zip(plain.history, averaged.history, strict=True):
        assert same(one, other)


@pytest.mark.parametrize(
    "experiment", [Experiment(ema=Ema(True, DECAY)), Experiment(average_last=2)], ids=["ema", "average"]
)
def test_a_resumed_training_saves_the_weights_of_one_that_was_never_killed(
    tmp_path: Path, experiment: Experiment
) -> None:
    wers = (0.9, 0.8, 0.7, 0.6)
    whole = tiny(wers)
    trainer = fitted(tmp_path / "whole", whole, experiment)
    choose_weights(trainer, whole, tmp_path / "whole", experiment, LOG)
    fitted(tmp_path / "cut", tiny(wers), experiment, max_epochs=2)
    (tmp_path / "cut").rename(tmp_path / "moved")
    torch.manual_seed(2)
    resumed = Tiny(wers)
    trainer = fitted(tmp_path / "moved", resumed, experiment)
    assert len(resumed.history) == 2 * 6
    choose_weights(trainer, resumed, tmp_path / "moved", experiment, LOG)
    assert same(copied(resumed), copied(whole))


def test_early_stopping_counts_validations_without_gain_and_holds_after_a_resume(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    wers = (0.9, 0.5, 0.4995, 0.51, 0.3, 0.2)
    stopping = EarlyStopping(patience=2, min_delta=0.001)
    experiment = Experiment(create_early_stopping_callback=True, early_stopping_callback_params=stopping)
    caplog.set_level(logging.INFO, "hlas")
    trainer = fitted(tmp_path, tiny(wers), experiment)
    assert trainer.current_epoch == 4  # epochs 2 and 3 were not better by 0.001
    assert "stops early: no better dev_wer for 2 validations" in caplog.text
    again = tiny(wers)
    fitted(tmp_path, again, experiment)
    assert again.history == []


def test_it_says_that_it_stops_where_it_does(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    stopping = EarlyStopping(patience=1)
    experiment = Experiment(create_early_stopping_callback=True, early_stopping_callback_params=stopping)
    caplog.set_level(logging.INFO, "hlas")
    assert fitted(tmp_path, tiny((0.5,) * 6), experiment, min_epochs=4).current_epoch == 4
    assert [text for text in caplog.messages if "stops early" in text] == [
        "stops early: no better dev_wer for 3 validations"
    ]


def test_a_checkpoint_that_cannot_be_written_leaves_the_one_before(tmp_path: Path) -> None:
    path = tmp_path / "checkpoints" / "last.ckpt"
    WholeFiles().save_checkpoint({"epoch": 1}, path)
    before = path.read_bytes()
    with pytest.raises(AttributeError, match="pickle"):
        WholeFiles().save_checkpoint({"weights": torch.ones(1000), "epoch": lambda: 2}, path)
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == ["last.ckpt"]
    assert last_checkpoint(tmp_path) == path
    path.write_bytes(before[:-20])
    with pytest.raises(UserError, match=r"last\.ckpt is not whole(.|\n)*delete it, and the training starts anew"):
        last_checkpoint(tmp_path)


def test_early_stopping_waits_until_a_first_word_is_heard(tmp_path: Path) -> None:
    """From scratch a CTC model writes blanks alone, a WER of 1, for longer than a patience."""
    stopping = EarlyStopping(patience=2)
    experiment = Experiment(create_early_stopping_callback=True, early_stopping_callback_params=stopping)
    wers = (1.0, 1.02, 1.0, 1.0, 0.9, 1.0, 1.0, 0.5)
    fitted(tmp_path, tiny(wers), experiment, max_epochs=4)
    assert fitted(tmp_path, tiny(wers), experiment).current_epoch == 7  # resumed; two no better after 0.9


def test_by_loss_early_stopping_counts_from_the_first_validation_on(tmp_path: Path) -> None:
    stopping = EarlyStopping("val_loss", patience=2)
    experiment = Experiment(create_early_stopping_callback=True, early_stopping_callback_params=stopping)
    model = Tiny((1.0,) * 6, (2.0, 2.0, 2.0, 1.0, 1.0, 1.0))
    assert fitted(tmp_path, model, experiment).current_epoch == 3


def test_only_the_last_epochs_weights_stay_on_disk(tmp_path: Path) -> None:
    fitted(tmp_path, tiny((0.5,) * 5), Experiment(average_last=2))
    assert sorted(path.name for path in (tmp_path / "checkpoints").glob("weights*")) == [
        "weights-003.pt",
        "weights-004.pt",
    ]


def weights(path: Path) -> dict[str, Tensor]:
    return dict(CtcModel.load(path, "cpu").model.state_dict())


def with_options(given: Params, **options: Any) -> Params:
    return replace(given, exp_manager=Experiment(**options))


def test_a_real_training_with_ema_resumes_to_the_same_model(lab: Lab) -> None:
    tokenizer = lab.tokenizer(tokenizer_stage.Params("char"))
    given = with_options(params(epochs=3), ema=Ema(True, DECAY), samples=0)
    whole = lab.train("train-ema", given, tokenizer)
    assert whole["weights"] == "ema"
    assert whole["dev_wers"] == {"ema": whole["best_dev_wer"]}
    with killed_in(2):
        lab.train("train-ema-killed", given, tokenizer)
    resumed = lab.train("train-ema-killed", given, tokenizer)
    models = [weights(lab.store / name / "model.nemo") for name in ("train-ema", "train-ema-killed")]
    assert same(*models)
    assert resumed["dev_wers"] == whole["dev_wers"]


def test_a_real_training_keeps_the_next_best_and_measures_the_average(lab: Lab) -> None:
    tokenizer = lab.tokenizer(tokenizer_stage.Params("char"))
    options = CheckpointOptions(monitor="val_loss", save_top_k=2)
    given = with_options(params(epochs=3), checkpoint_callback_params=options, average_last=2)
    summary = lab.train("train-top", given, tokenizer)
    folder = lab.store / "train-top"
    rows = sorted(curve(folder), key=lambda row: (row["dev_loss"], row["epoch"]))
    assert summary["best_epoch"] == rows[0]["epoch"]
    models = sorted(path.name for path in folder.glob("*.nemo"))
    assert models == [f"model.epoch_{rows[1]['epoch'] + 1:03d}.nemo", "model.nemo"]
    assert set(summary["dev_wers"]) == {"best", "average of 2"}
    assert summary["weights"] in summary["dev_wers"]
    assert len(rows) == 3  # the average's validation is no epoch
    assert not (folder / "checkpoints").exists()
    with tarfile.open(folder / models[0]) as archive:
        assert str(lab.store).encode() not in b"".join(archive.extractfile(m).read() for m in archive if m.isfile())  # type: ignore[union-attr]  # m is a file
    assert json.dumps(summary)

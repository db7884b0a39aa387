"""Training on kept outputs: loaders whose batches are what the frozen part of the encoder gave once."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from torch.utils.data import Dataset

from hlas.errors import UserError
from hlas.manifests.rows import Row
from hlas.models.freezing import Freeze
from hlas.models.training.batching import Key
from hlas.models.training.job import Fit, Job
from hlas.models.training.kept_outputs import Item, KeptDataset, can_keep, keep_outputs, kept_encoder
from hlas.models.training.loading import configure_data, dev_sampler, make_loader, train_sampler
from hlas.models.training.options import KeepOutputs
from hlas.models.training.screening import Screened

FOLDER = "kept"  # in the stage's folder, while it trains


class KeptUtterances(Dataset[Any]):  # type: ignore[misc]  # torch is Any to mypy
    """Kept outputs indexed by keys (epoch, row), as the batch samplers give them."""

    collate_fn = staticmethod(KeptDataset.collate_fn)

    def __init__(self, dataset: KeptDataset, rows: Sequence[Row], seed: int) -> None:
        self.dataset, self.rows, self.seed = dataset, rows, seed

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, key: Key) -> Item:
        epoch, row = key
        self.dataset.set_epoch(epoch)
        return self.dataset[row]


def attach_kept_loaders(
    model: Any, job: Fit, screened: Mapping[str, Screened], rank: int, ranks: int, log: logging.Logger
) -> None:
    """Compute what is kept of train and dev and give the model its loaders. Raises UserError where that cannot be.

    The model is on the device that is to compute it. What a killed run has kept is taken as it is.
    """
    assert job.keep_outputs is not None
    last = last_layers(job.freeze)
    if not can_keep(model.encoder, last):
        problem = f"a {type(model.encoder).__name__} cannot be computed up to its last {last} blocks"
        raise UserError("keep_outputs", problem, "set freeze: encoder, or leave keep_outputs out")
    check_augmented(job)
    configure_data(model, job, screened)
    rows = {split: screened[split].rows for split in screened}
    tokens = {split: [_tokens(model, row) for row in rows[split]] for split in rows}
    attach_kept(model, rows, tokens, job, job.keep_outputs, last, rank, ranks, log)


def check_augmented(job: Any) -> None:
    """Raise UserError where the audio (of a `Fit` or a `Tuning`) is to change from epoch to epoch."""
    if augmented := list(job.model["train_ds"].get("augmentor") or job.sets):
        problem = f"the audio is heard once, before {augmented[0]} could change it in every epoch"
        raise UserError("keep_outputs", problem, "leave the augmentor out (keep_outputs.speeds varies the speed)")


def attach_kept(
    model: Any,
    rows: Mapping[str, Sequence[Row]],
    tokens: Mapping[str, Sequence[Sequence[int]]],
    job: Job,
    options: KeepOutputs,
    last_layers: int,
    rank: int,
    ranks: int,
    log: logging.Logger,
) -> None:
    """Keep the outputs of the rows of 'train' and 'dev', their paths relative to the stage's folder; load from them."""
    kept = {
        split: keep_outputs(
            model,
            rows[split],
            job.folder,
            job.folder / FOLDER / split,
            speeds=options.speeds if split == "train" else (1.0,),
            last_layers=last_layers,
            log=log,
        )
        for split in ("train", "dev")
    }
    config = model.cfg.train_ds
    heard = KeptUtterances(kept["train"].dataset(tokens["train"], job.seed, augment=True), rows["train"], job.seed)
    model._train_dl = make_loader(heard, train_sampler(config, rows["train"], job.seed, rank, ranks), config, ranks)
    config = model.cfg.validation_ds
    heard = KeptUtterances(kept["dev"].dataset(tokens["dev"]), rows["dev"], 0)
    model._validation_dl = make_loader(heard, dev_sampler(config, rows["dev"], rank, ranks), config, ranks)


@contextmanager
def rest_of_encoder(model: Any, job: Fit) -> Iterator[None]:
    """The model as it is trained: on kept outputs its encoder computes only what is above them."""
    if job.keep_outputs is None:
        yield
        return
    with kept_encoder(model, last_layers(job.freeze)):
        yield


def last_layers(freeze: Freeze) -> int:
    """How many of the encoder's last layers are trained, where all below is frozen."""
    return freeze["encoder_except_last"] if isinstance(freeze, dict) else 0


def _tokens(model: Any, row: Row) -> Sequence[int]:
    """The transcript's labels by number; characters without a label, which only dev has, are left out as NeMo does."""
    if hasattr(model, "tokenizer"):
        ids: Sequence[int] = model.tokenizer.text_to_ids(row.text)
        return ids
    number = {str(label): i for i, label in enumerate(model.decoder.vocabulary)}
    return [number[character] for character in row.text if character in number]

"""NeMo's dataset and collate under loaders of ours: the data of an epoch depends on (seed, epoch) alone.

Neither the number of workers, nor that of processes, nor where a killed training goes on changes what is drawn.
"""

import logging
import os
import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from hlas.manifests.rows import Row
from hlas.models.training.batching import BatchSampler, Key, Limits, TrainBatches, dev_batches, share
from hlas.models.training.build import model_config
from hlas.models.training.job import Fit
from hlas.models.training.known_keys import NEMO_LOADERS
from hlas.models.training.screening import Screened
from hlas.parallel import default_workers

MOST_WORKERS = 8  # a process, where train_ds.num_workers is not given and a GPU waits


class BrokenClip(Exception):
    """A clip that cannot be read; its message is one line, the last one of what arrives from a worker."""


class Utterances(Dataset[Any]):  # type: ignore[misc]  # torch is Any to mypy
    """NeMo's dataset, its augmentation drawn from (seed, epoch, row); indexed by keys (epoch, row)."""

    def __init__(self, dataset: Any, rows: Sequence[Row], seed: int) -> None:
        if len(dataset) != len(rows):
            raise RuntimeError(f"NeMo left out {len(rows) - len(dataset)} rows that passed the screening")
        self.dataset, self.rows, self.seed = dataset, rows, seed
        self.collate_fn = dataset.collate_fn
        self.augmented = bool(dataset.featurizer.augmentor._pipeline)  # without perturbations there is one, too

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, key: Key) -> Any:
        epoch, row = key
        clip = self.rows[row].audio_filepath
        try:
            if self.augmented:
                with drawn_from(self.seed, epoch, row):
                    made = self.dataset[row]
            else:
                made = self.dataset[row]
        except Exception as error:  # libsndfile, pydub and each perturbation fail in their own way
            raise BrokenClip(f"{clip}: {' '.join(str(error).split())}") from error
        if (signal := made[0]).ndim != 1:
            problem = f"{signal.shape[-1]} channels, of which a model hears one: choose it by channel_selector"
            raise BrokenClip(f"{clip}: {problem} (0 is the first, average their mean), or make the clip mono")
        return made


@contextmanager
def drawn_from(*key: int) -> Iterator[None]:
    """Random numbers on the CPU (Python's, numpy's, torch's) that the key decides; afterwards all is as it was."""
    before = random.getstate(), np.random.get_state(), torch.get_rng_state()
    seed, numpy_seed, torch_seed = (int(word) for word in np.random.SeedSequence(key).generate_state(3))
    random.seed(seed)
    np.random.seed(numpy_seed)
    torch.default_generator.manual_seed(torch_seed)  # torch.manual_seed would set the GPU's, too
    try:
        yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])
        torch.set_rng_state(before[2])


def configure_data(model: Any, job: Fit, screened: Mapping[str, Screened]) -> None:
    """The keys of the data in the model's config, as NeMo's own set-up leaves them: what the loaders are made by."""
    from omegaconf import OmegaConf, open_dict

    config = OmegaConf.create({name: model_config(job)[name] for name in ("train_ds", "validation_ds")})
    config.train_ds.manifest_filepath = str(screened["train"].manifest)
    config.validation_ds.manifest_filepath = str(screened["dev"].manifest)
    with open_dict(model.cfg):
        model.cfg.merge_with(config)
    model._validation_names = ["dev"]  # NeMo reads it where there are several


def attach_loaders(
    model: Any, job: Fit, screened: Mapping[str, Screened], rank: int, ranks: int, log: logging.Logger
) -> None:
    """Give the model its loaders of train and dev."""
    configure_data(model, job, screened)
    config = model.cfg.train_ds
    if own := [key for key in NEMO_LOADERS if config.get(key)]:
        log.warning("train_ds.%s: NeMo's own loader; a training that was killed goes on with other batches", own[0])
        model.setup_training_data(config)
    else:
        model._train_dl = train_loader(model, screened["train"].rows, job.seed, rank, ranks)
    model._validation_dl = dev_loader(model, screened["dev"].rows, rank, ranks)


def train_loader(model: Any, rows: Sequence[Row], seed: int, rank: int = 0, ranks: int = 1) -> DataLoader[Any]:
    """Batches to train on, limited by `train_ds.batch_size`, `batch_duration` (seconds, padding counted) or both."""
    config = model.cfg.train_ds
    dataset = _nemo_dataset(model, config)
    return make_loader(Utterances(dataset, rows, seed), train_sampler(config, rows, seed, rank, ranks), config, ranks)


def train_sampler(config: Any, rows: Sequence[Row], seed: int, rank: int, ranks: int) -> BatchSampler:
    """One process's batches of every epoch, within the limits of `train_ds`."""
    batches = TrainBatches(
        [row.duration for row in rows],
        _limits(config),
        seed=seed,
        ranks=ranks,
        shuffle=config.shuffle,
        drop_last=config.get("drop_last", False),
    )

    def of_epoch(epoch: int) -> list[list[int]]:
        return [share(batch, rank, ranks) for batch in batches.epoch(epoch)]

    return BatchSampler(of_epoch, len(batches))


def dev_loader(model: Any, rows: Sequence[Row], rank: int = 0, ranks: int = 1) -> DataLoader[Any]:
    """Batches to validate on, by length; `validation_ds` has the limits."""
    config = model.cfg.validation_ds
    dataset = _nemo_dataset(model, config)
    return make_loader(Utterances(dataset, rows, 0), dev_sampler(config, rows, rank, ranks), config, ranks)


def dev_sampler(config: Any, rows: Sequence[Row], rank: int, ranks: int) -> BatchSampler:
    """One process's batches to validate on."""
    batches = dev_batches([row.duration for row in rows], _limits(config), rank, ranks)
    return BatchSampler(lambda epoch: batches, len(batches))


def batches_an_epoch(trainer: Any, model: Any) -> int | None:
    """How many batches one process trains on in an epoch; None where nothing says it."""
    limit = trainer.limit_train_batches
    try:
        batches = len(model.train_dataloader())
    except TypeError:  # lhotse's samplers have no length
        return limit if isinstance(limit, int) else None
    return min(batches, limit) if isinstance(limit, int) else int(batches * limit)


def rows_of(loader: Any, epoch: int, batch: int) -> list[Row]:
    """The rows of one batch of a loader of ours, by its place in the epoch; none of one of NeMo's."""
    sampler, rows = getattr(loader, "batch_sampler", None), getattr(getattr(loader, "dataset", None), "rows", None)
    if not isinstance(sampler, BatchSampler) or rows is None:
        return []
    return [rows[row] for row in sampler.batches_of(epoch)[batch]]


def _limits(config: Any) -> Limits:
    given = {"buckets": config.num_buckets} if config.get("num_buckets") else {}
    return Limits(config.get("batch_size"), config.get("batch_duration"), **given)


def make_loader(dataset: Any, sampler: BatchSampler, config: Any, ranks: int) -> DataLoader[Any]:
    """A loader over keys (epoch, row); the dataset brings its collate_fn and its seed."""
    gpu = torch.cuda.is_available()
    workers = config.get("num_workers")
    if workers is None:
        here = int(os.environ.get("LOCAL_WORLD_SIZE", ranks))
        workers = min(MOST_WORKERS, max(1, default_workers() // here)) if gpu else 0
    return DataLoader(
        dataset,
        batch_sampler=sampler,
        collate_fn=dataset.collate_fn,
        num_workers=workers,
        pin_memory=gpu and config.get("pin_memory", True),
        persistent_workers=workers > 0,
        generator=torch.Generator().manual_seed(dataset.seed),  # else each iterator draws from what dropout draws from
    )


def _nemo_dataset(model: Any, config: Any) -> Any:
    """AudioToCharDataset or AudioToBPEDataset, with the augmentor that the config names."""
    from nemo.collections.asr.data import audio_to_text_dataset as nemo

    rank = {"local_rank": 0, "global_rank": 0, "world_size": 1}  # our samplers share the rows out
    if hasattr(model, "tokenizer"):
        return nemo.get_audio_to_text_bpe_dataset_from_config(config=config, tokenizer=model.tokenizer, **rank)
    return nemo.get_audio_to_text_char_dataset_from_config(config=config, **rank)

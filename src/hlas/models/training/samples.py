"""Lightning callback: what some dev utterances were heard as after each epoch, in samples.jsonl and the loggers."""

import random
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from lightning.pytorch.callbacks import Callback

from hlas.files import write_json_lines
from hlas.models.training.curve import read_rows
from hlas.models.training.loggers import log_samples
from hlas.models.training.validation import DevRates


class Samples(Callback):  # type: ignore[misc]  # lightning is untyped here
    """References and greedy hypotheses of `count` dev utterances, the same ones in every epoch.

    A line of samples.jsonl is {"epoch", "utterance", "reference", "hypothesis"}; `utterance` is the place in the
    validation's order. With several processes they are utterances of the first one's share. Survives a resume
    without doubled epochs.
    """

    def __init__(self, path: Path, dev: DevRates, count: int, seed: int) -> None:
        self.path, self.dev, self.count, self.seed = path, dev, count, seed
        self.rows = read_rows(path)

    def on_train_start(self, trainer: Any, model: Any) -> None:
        """Drop the epochs that are done again."""
        self.rows = [row for row in self.rows if row["epoch"] < trainer.current_epoch]

    def on_validation_end(self, trainer: Any, model: Any) -> None:
        """Keep this epoch's; of several validations in an epoch, the last one's."""
        if trainer.sanity_checking or trainer.state.fn != "fit" or not trainer.is_global_zero:
            return
        epoch = trainer.current_epoch
        own = [
            {"epoch": epoch, "utterance": i, "reference": self.dev.references[i], "hypothesis": self.dev.hypotheses[i]}
            for i in spread(list(map(len, self.dev.references)), self.count, self.seed)
        ]
        self.rows = [row for row in self.rows if row["epoch"] != epoch] + own
        write_json_lines(self.path, self.rows)
        step = max(0, trainer.global_step - 1)  # as Lightning counts where it logs the epoch's numbers
        log_samples(trainer.loggers, [(row["reference"], row["hypothesis"]) for row in own], epoch, step)


def spread(lengths: Sequence[int], count: int, seed: int) -> list[int]:
    """Places of `count` items that are spread over the lengths: one drawn from each of `count` groups of like length.

    Shortest first. All of them where there are no more than `count`.
    """
    order = sorted(range(len(lengths)), key=lambda i: (lengths[i], i))
    draw = random.Random(seed)
    edges = [len(order) * k // count for k in range(count + 1)] if len(order) > count else range(len(order) + 1)
    return [order[draw.randrange(low, high)] for low, high in pairwise(edges)]

"""Lightning callback: dev WER and CER of what a Whisper writes while it is tuned, under the language's text rules."""

from collections.abc import Callable
from typing import Any

from hlas.models.training.loading import rows_of
from hlas.models.training.validation import DevRates


class DevTexts(DevRates):
    """Collects the greedy texts of the validation, normalised as the report does."""

    def __init__(self, normalise: Callable[[str], str]) -> None:
        super().__init__()
        self._normalise = normalise

    def on_validation_batch_end(
        self, trainer: Any, model: Any, outputs: Any, batch: Any, index: int, loader: int = 0
    ) -> None:
        """Keep the batch's texts."""
        rows = rows_of(trainer.val_dataloaders, trainer.current_epoch, index)
        self.references += [row.text for row in rows]
        self.hypotheses += [self._normalise(text) for text in outputs["texts"]]

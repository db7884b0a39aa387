"""Lightning callbacks: the dev split's transcripts, and its WER and CER, out of the validation that runs anyway.

A CTC model's loss is called with all that decoding needs (log-probs, their lengths, targets), whatever the batches are
made of: audio, or kept outputs of an encoder. A hook on it looks on; nothing is computed twice but the cheap argmax.
"""

from typing import Any

import numpy as np
from lightning.pytorch.callbacks import Callback

from hlas.decode.greedy import collapse
from hlas.decode.logprobs import Vocabulary
from hlas.decode.tune import count_edits
from hlas.errors import UserError
from hlas.models.training.loading import rows_of
from hlas.tokenizers.stage import Labels


class DevRates(Callback):  # type: ignore[misc]  # lightning is untyped here
    """Logs `dev_wer` and `dev_cer` of what a kind of model wrote, counted as the report counts them.

    Both are errors divided by words (characters) of the whole split, summed over all processes: NeMo's own `val_wer`
    is the same number in one process, but for words heard where the reference is empty and for characters that have no
    label, which it leaves out; with several processes it is the mean of their WERs.

    `references`, `hypotheses`: texts of this process's share of the last validation, in the loader's order.
    """

    blank_at_first = False  # whether such a model hears nothing, a WER of 1, while its loss falls for some epochs

    def __init__(self) -> None:
        self.references: list[str] = []
        self.hypotheses: list[str] = []

    def on_validation_start(self, trainer: Any, model: Any) -> None:
        """Begin a new pass."""
        self.references, self.hypotheses = [], []

    def on_validation_epoch_end(self, trainer: Any, model: Any) -> None:
        """Sum up and log. Raises UserError where the references have no word: there is no rate of nothing."""
        import torch

        pairs = [(r, h) for r, h in zip(self.references, self.hypotheses, strict=True) if r]
        edits = [count_edits(reference, hypothesis) for reference, hypothesis in pairs]
        own = [
            sum(words for words, _ in edits),
            sum(len(reference.split()) for reference, _ in pairs),
            sum(characters for _, characters in edits),
            sum(len(reference) for reference, _ in pairs),
        ]
        counts = torch.tensor(own, dtype=torch.int64, device=model.device)
        word_errors, words, character_errors, characters = trainer.strategy.reduce(counts, reduce_op="sum").tolist()
        if not words:
            if trainer.sanity_checking:  # a few batches, for which nothing is chosen
                return
            problem = "not one word in the references that were validated on: there is no WER to choose weights by"
            raise UserError("dev", problem, "raise trainer.limit_val_batches, or check the texts of the split")
        rates = {"dev_wer": word_errors / words, "dev_cer": character_errors / characters}
        model.log_dict(rates, sync_dist=trainer.world_size > 1)


class DevTranscripts(DevRates):
    """Decodes every validation batch of a CTC model by the likeliest label of each frame."""

    blank_at_first = True

    def __init__(self, labels: Labels) -> None:
        super().__init__()
        self.vocabulary = Vocabulary(labels.tokens, labels.unit, frame_s=0.0)  # only its texts are asked for
        self._hook: Any = None
        self._batch_done = False
        self._texts: list[str] = []  # of the batch's rows; empty where the loader is NeMo's own

    def on_validation_start(self, trainer: Any, model: Any) -> None:
        """Begin a new pass."""
        super().on_validation_start(trainer, model)
        self._hook = model.loss.register_forward_pre_hook(self._on_loss, with_kwargs=True)

    def on_validation_batch_start(self, trainer: Any, model: Any, batch: Any, batch_idx: int, *_: Any) -> None:
        """Of the losses of a batch, the first is that of the last layer; others are those of layers in between."""
        self._batch_done = False
        self._texts = [row.text for row in rows_of(trainer.val_dataloaders, trainer.current_epoch, batch_idx)]

    def _on_loss(self, module: Any, args: Any, kwargs: dict[str, Any]) -> None:
        if self._batch_done:
            return
        self._batch_done = True
        best = kwargs["log_probs"].argmax(dim=-1).cpu().numpy()  # (batch, frames)
        for labels, frames in zip(best, kwargs["input_lengths"].tolist(), strict=True):
            self.hypotheses.append(self._text(collapse(labels[:frames], self.vocabulary.blank)))
        if self._texts:  # characters without a label stand in them, and count as errors
            self.references += self._texts
            return
        for labels, length in zip(kwargs["targets"].cpu().numpy(), kwargs["target_lengths"].tolist(), strict=True):
            self.references.append(self._text(labels[:length]))

    def _text(self, ids: Any) -> str:
        return self.vocabulary.text(np.asarray(ids).tolist())

    def on_validation_epoch_end(self, trainer: Any, model: Any) -> None:
        """Sum up and log."""
        self._hook.remove()
        super().on_validation_epoch_end(trainer, model)

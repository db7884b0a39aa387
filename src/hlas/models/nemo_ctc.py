"""A trained NeMo CTC model as a function from audio to log-probs."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hlas.decode.logprobs import Vocabulary
from hlas.errors import UserError

Audio = npt.NDArray[np.float32]  # mono, in [-1, 1], at the model's sample rate
LogProbArray = npt.NDArray[np.float32]  # (frames, vocabulary + 1), natural log, blank last
PROBE_S = 8.0  # silence from which the seconds a frame stands for are measured


@dataclass(frozen=True)
class CtcModel:
    """A NeMo model in evaluation mode on its device."""

    model: Any  # nemo.collections.asr.models.EncDecCTCModel
    vocabulary: Vocabulary
    sample_rate_hz: int
    device: str

    @classmethod
    def load(cls, path: Path, device: str = "auto") -> "CtcModel":
        """Restore a `.nemo` file; `device` is 'auto', 'cpu' or 'cuda'."""
        if not path.is_file():
            raise UserError(str(path), "no such model file", "name a .nemo file")
        from hlas.models.nemo_quiet import import_asr

        nemo_asr = import_asr()
        import torch

        from hlas.models.nemo_file import check_weights

        chosen = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
        try:
            check_weights(path)
            model = nemo_asr.models.ASRModel.restore_from(str(path), map_location=torch.device(chosen))
        except Exception as error:  # a broken file fails in NeMo, torch, tarfile, YAML or Hydra, each in its own way
            from hlas.models.training.memory import lacks_memory

            if isinstance(error, RuntimeError) and lacks_memory(error):
                raise
            first = (str(error).splitlines() or [type(error).__name__])[0]
            raise UserError(
                str(path), f"not a NeMo model that can be restored: {first}", "check that the file is whole"
            ) from error
        return cls.wrap(model, chosen, str(path))

    @classmethod
    def wrap(cls, model: Any, device: str, where: str = "model") -> "CtcModel":
        """Take a NeMo CTC model that is in memory already."""
        labels = getattr(getattr(model, "decoder", None), "vocabulary", None)
        if labels is None or hasattr(model, "joint"):  # a transducer's decoder has a vocabulary, too
            raise UserError(
                where, f"a {type(model).__name__} is not a CTC model", "name an EncDecCTCModel or EncDecCTCModelBPE"
            )
        model.eval()
        tokens = tuple(str(token) for token in labels)
        unit = "bpe" if hasattr(model, "tokenizer") else "char"
        rate = int(model.cfg.preprocessor.sample_rate)
        wrapped = cls(model, Vocabulary(tokens, unit, frame_s=1.0), rate, device)
        frames = wrapped._forward([np.zeros(int(PROBE_S * rate), dtype=np.float32)])[0].shape[0]
        hop_s = float(model.cfg.preprocessor.window_stride)
        frame_s = max(1, round(PROBE_S / frames / hop_s)) * hop_s
        return cls(model, Vocabulary(tokens, unit, round(frame_s, 6)), rate, device)

    def log_probs(self, audio: Sequence[Audio], batch_s: float = 160.0) -> list[LogProbArray]:
        """Log-probs of each audio; batches hold at most `batch_s` seconds, padding counted."""
        out: list[LogProbArray | None] = [None] * len(audio)
        for batch in batches([len(a) / self.sample_rate_hz for a in audio], batch_s):
            for position, array in zip(batch, self._forward([audio[i] for i in batch]), strict=True):
                out[position] = array
        return [array for array in out if array is not None]

    def _forward(self, audio: Sequence[Audio]) -> list[LogProbArray]:
        import torch

        lengths = torch.tensor([len(a) for a in audio], device=self.device)
        signal = torch.zeros(len(audio), int(lengths.max()), device=self.device)
        for i, samples in enumerate(audio):
            signal[i, : len(samples)] = torch.from_numpy(np.ascontiguousarray(samples, dtype=np.float32)).to(
                self.device
            )
        with torch.inference_mode():
            log_probs, frames, _ = self.model(input_signal=signal, input_signal_length=lengths)
        log_probs = log_probs.float().cpu().numpy()
        return [log_probs[i, : int(n)] for i, n in enumerate(frames)]


@contextmanager
def evaluating(model: Any) -> Iterator[None]:
    """The model in evaluation mode; afterwards each module is in its own again."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def batches(durations_s: Sequence[float], batch_s: float, most: int = 64) -> Iterator[list[int]]:
    """Positions grouped by length, longest first, so that padding is small and a lack of memory shows at once.

    A batch holds at most `batch_s` seconds with padding and at most `most` items, but always one.
    """
    order = sorted(range(len(durations_s)), key=lambda i: -durations_s[i])
    batch: list[int] = []
    for i in order:
        if batch and ((len(batch) + 1) * durations_s[batch[0]] > batch_s or len(batch) == most):
            yield batch
            batch = []
        batch.append(i)
    if batch:
        yield batch

"""Whisper by faster-whisper's engine, CTranslate2: int8 on a processor, float16 on a GPU."""

import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from hlas.errors import UserError
from hlas.models.whisper_engine import FIRST_TIMESTAMP_MAX, MAX_POSITIONS, SEED, WINDOW_FRAMES, Drawn
from hlas.models.whisper_languages import known_to
from hlas.models.whisper_options import WhisperOptions

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

LOG = logging.getLogger("hlas")


class CTranslate2Engine:
    """A CTranslate2 folder, loaded; an `Engine`."""

    def __init__(self, folder: Path, options: WhisperOptions, threads: int) -> None:
        """Load; 0 threads: CTranslate2's choice. UserError where it cannot be run as asked."""
        import ctranslate2

        self._options = options
        device, compute_type = options.device, options.compute_type
        if device == "auto":
            device = "cuda" if ctranslate2.get_cuda_device_count() else "cpu"
        try:
            loaded = _load(folder, device, compute_type, threads)
        except (RuntimeError, ValueError) as error:
            if device == "cpu" or options.device != "auto":
                fix = "set device: cpu" if device == "cuda" else "set compute_type: auto, or another weights folder"
                raise UserError(str(folder), f"cannot be run on {device} as {compute_type}: {error}", fix) from error
            LOG.warning("Whisper cannot use the GPU, so it runs on the processor: %s", error)
            device = "cpu"
            loaded = _load(folder, device, compute_type, threads)
        self._model = loaded.model
        self.device: Literal["cpu", "cuda"] = device
        self.compute_type: str = self._model.compute_type
        self.mels: int = self._model.n_mels
        self.tokenizer: Any = loaded.hf_tokenizer
        self.languages = known_to(self.tokenizer) if self._model.is_multilingual else ("en",)
        self._suppressed = suppressed_tokens(self.tokenizer)

    def encode(self, features: "npt.NDArray[np.float32]") -> Any:
        """Encode (windows, mels, frames)."""
        return self._model.encode(_storage(features))

    def pick(self, encoded: Any, windows: Sequence[int]) -> Any:
        """The same for some of the windows only."""
        import numpy as np
        from ctranslate2 import DataType, Device

        if list(windows) == list(range(encoded.shape[0])):
            return encoded
        here = encoded.to_device(Device.cpu).to(DataType.float32)  # numpy has no bfloat16
        return _storage(np.array(here)[list(windows)])

    def guess(self, encoded: Any) -> list[str]:
        """The likeliest language's code for each window."""
        if len(self.languages) == 1:
            return list(self.languages) * int(encoded.shape[0])
        return [found[0][0].strip("<|>") for found in self._model.detect_language(encoded)]

    def draw(self, encoded: Any, prompts: Sequence[Sequence[int]], temperature: float) -> list[Drawn]:
        """A text for each window; of samples the most probable one."""
        options = self._options
        how: dict[str, Any] = {"beam_size": options.beam_size}
        if temperature > 0:
            how = {"beam_size": 1, "num_hypotheses": options.best_of, "sampling_topk": 0}
            how["sampling_temperature"] = temperature
        results = self._model.generate(
            encoded,
            [list(prompt) for prompt in prompts],
            repetition_penalty=options.repetition_penalty,
            no_repeat_ngram_size=options.no_repeat_ngram_size,
            max_length=MAX_POSITIONS,
            return_scores=True,
            return_no_speech_prob=True,
            suppress_tokens=self._suppressed,
            max_initial_timestamp_index=FIRST_TIMESTAMP_MAX,
            **how,
        )
        out = []
        for result in results:
            tokens = tuple(result.sequences_ids[0])
            # the score is a mean without the end of the text, of a sum that holds it
            out.append(Drawn(tokens, result.scores[0] * len(tokens) / (len(tokens) + 1), result.no_speech_prob))
        return out


def suppressed_tokens(tokenizer: Any) -> list[int]:
    """What is never drawn: notes that are no speech ('[music]', '♪'), and the prompt's own tokens."""
    from faster_whisper.tokenizer import Tokenizer
    from faster_whisper.transcribe import get_suppressed_tokens

    return list(get_suppressed_tokens(Tokenizer(tokenizer, multilingual=False), [-1]) or ())


def _storage(array: "npt.NDArray[np.float32]") -> Any:
    import ctranslate2
    import numpy as np

    return ctranslate2.StorageView.from_array(np.ascontiguousarray(array))


def _load(folder: Path, device: str, compute_type: str, threads: int) -> Any:
    """A faster-whisper model that has been seen to work."""
    import ctranslate2
    import faster_whisper
    import numpy as np

    if compute_type == "auto":
        compute_type = "float16" if device == "cuda" else "int8"
    ctranslate2.set_random_seed(SEED)
    # It sets the number of OpenMP's threads for the thread that loads it. In one of its own, so that what else this
    # process computes, another stage's training, keeps its number.
    with ThreadPoolExecutor(1) as loader:
        how = {"device": device, "compute_type": compute_type, "cpu_threads": threads}
        try:
            loaded = loader.submit(faster_whisper.WhisperModel, str(folder), **how).result()
        except Exception as error:  # tokenizers raises nothing more special for a file that it cannot read
            if type(error) is not Exception:
                raise
            problem = f"damaged: {(str(error).splitlines() or [''])[0]}"
            raise UserError(str(folder / "tokenizer.json"), problem, "fetch or convert the folder again") from error
    if device == "cuda":  # a lack of cuBLAS only shows at the first use
        loaded.encode(np.zeros((loaded.model.n_mels, WINDOW_FRAMES), dtype=np.float32))
    return loaded

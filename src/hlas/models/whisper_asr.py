"""Whisper, loaded: audio -> transcripts, repeatable, in as many processes as wanted, by either engine."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hlas.manifests.rows import Row
from hlas.models.transcripts import Transcript
from hlas.models.whisper_decoding import transcribe_all
from hlas.models.whisper_engine import SAMPLE_RATE_HZ, Engine
from hlas.models.whisper_languages import check_code
from hlas.models.whisper_options import WhisperOptions
from hlas.parallel import chunked

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

AT_ONCE = 64  # clips whose features are in memory together, 1 MB each at most


@dataclass(frozen=True, slots=True)
class Heard:
    """A transcript and what it cost."""

    transcript: Transcript
    seconds: float  # to decode the audio and to transcribe it; of a group, shared out by the clips' length
    load_s: float  # to load the model, where that came right before; else 0


class Whisper:
    """A loaded model. The same recordings in the same order give the same texts, on one kind of device.

    Samples are drawn from a generator that is seeded when the model is loaded and cannot be seeded again.
    """

    sample_rate_hz = SAMPLE_RATE_HZ

    def __init__(self, folder: Path, options: WhisperOptions, language: str, threads: int = 0) -> None:
        """Load the engine's kind of folder; `language`: Whisper's code, '' lets it guess; 0 threads: its own choice.

        UserError where the folder cannot be loaded, or the model does not know the language.
        """
        self._options = options
        self._engine = load_engine(folder, options, threads)
        self.device, self.compute_type = self._engine.device, self._engine.compute_type
        check_code(language, self._engine.languages)
        self.language = language

    def transcribe(self, audio: "npt.NDArray[np.float32]") -> Transcript:
        """Transcribe (samples,), mono, 16 kHz, of any length."""
        return self.transcribe_all([audio])[0]

    def transcribe_all(self, clips: "Sequence[npt.NDArray[np.float32]]") -> list[Transcript]:
        """Transcribe several at once; batches are of like length, so the order of the clips costs nothing."""
        return [
            transcript
            for some in chunked(clips, AT_ONCE)
            for transcript in transcribe_all(self._engine, some, self._options, self.language)
        ]


def load_engine(folder: Path, options: WhisperOptions, threads: int) -> Engine:
    """Load the model of a folder: of CTranslate2 for faster-whisper, of Hugging Face for transformers."""
    if options.engine == "transformers":
        from hlas.models.whisper_transformers import TransformersEngine

        return TransformersEngine(folder, options, threads)
    from hlas.models.whisper_ctranslate2 import CTranslate2Engine

    return CTranslate2Engine(folder, options, threads)


@dataclass(frozen=True, slots=True)
class UtteranceTranscriber:
    """Transcribes groups of audio files, each with a freshly loaded model; a function for `map_chunks`.

    As every group starts anew, the texts depend on the groups and not on the number of processes.
    """

    folder: Path  # the engine's kind of folder
    options: WhisperOptions
    language: str
    threads: int
    manifest_folder: Path  # that relative audio paths start from

    def __call__(self, groups: Sequence[Sequence[Row]]) -> list[list[Heard]]:
        """One result a row; UserError names a file that cannot be decoded."""
        return [self._transcribe(rows) for rows in groups]

    def _transcribe(self, rows: Sequence[Row]) -> list[Heard]:
        from hlas.manifests.audio.files import load_utterance

        started = time.perf_counter()
        whisper = Whisper(self.folder, self.options, self.language, self.threads)
        load_s = time.perf_counter() - started
        out: list[Heard] = []
        for some in chunked(rows, AT_ONCE):
            started = time.perf_counter()
            clips = [load_utterance(row, self.manifest_folder, SAMPLE_RATE_HZ) for row in some]
            transcripts = whisper.transcribe_all(clips)
            spent_s, all_s = time.perf_counter() - started, sum(t.duration_s for t in transcripts)
            for transcript in transcripts:
                seconds = spent_s * transcript.duration_s / all_s if all_s else spent_s / len(some)
                out.append(Heard(transcript, seconds, 0.0 if out else load_s))
        return out

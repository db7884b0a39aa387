"""Whisper by faster-whisper (CTranslate2): audio files -> transcripts, repeatable, in as many processes as wanted."""

import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from hlas.errors import UserError, did_you_mean
from hlas.manifests.rows import Row
from hlas.models.transcripts import Segment, Transcript

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

LOG = logging.getLogger("hlas")
SAMPLE_RATE_HZ = 16000
WINDOW_S = 30.0  # what Whisper hears at once
SEED = 1
Device = Literal["auto", "cpu", "cuda"]


@dataclass(frozen=True)
class WhisperOptions:
    """How Whisper decodes; the defaults are its own where nothing else is said."""

    device: Device = "auto"
    compute_type: str = "auto"  # auto: int8 on a CPU, float16 on a GPU; else one of CTranslate2's
    beam_size: int = 5  # 1 falls back on samples more often, which costs what the narrower beam saves
    best_of: int = 5  # samples of which the best is taken, where the temperature is above 0
    # tried one after another until a text is neither repetitive nor improbable; 0 takes the best, above 0 samples
    temperatures: tuple[float, ...] = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
    compression_ratio_threshold: float = 2.4  # a text that zlib shrinks by more is repetitive
    log_prob_threshold: float = -1.0  # an average token below is improbable
    no_speech_threshold: float = 0.6  # above, with an improbable text: silence
    condition_on_previous_text: bool = False  # of a long recording: spreads an error into the next window
    vad_filter: bool = False  # Silero's speech detector before it
    timestamps: Literal["long", "always"] = "long"  # long: only where a recording is longer than a window

    def __post_init__(self) -> None:
        """Check the ranges."""
        if self.beam_size < 1 or self.best_of < 1:
            raise ValueError("beam_size and best_of are at least 1")
        if not self.temperatures or min(self.temperatures) < 0:
            raise ValueError("temperatures are a list of numbers, none below 0")


@dataclass(frozen=True, slots=True)
class Heard:
    """A transcript and what it cost."""

    transcript: Transcript
    seconds: float  # to decode the audio and to transcribe it
    load_s: float  # to load the model, where that came right before; else 0


class Whisper:
    """A loaded model. The same recordings in the same order give the same texts, on one kind of device.

    Samples are drawn from a generator that is seeded when the model is loaded and cannot be seeded again.
    """

    sample_rate_hz = SAMPLE_RATE_HZ

    def __init__(self, folder: Path, options: WhisperOptions, language: str, threads: int = 0) -> None:
        """Load a CTranslate2 folder; `language`: Whisper's code, '' lets it guess; 0 threads: CTranslate2's choice."""
        import ctranslate2

        self._options = options
        device, compute_type = options.device, options.compute_type
        if device == "auto":
            device = "cuda" if ctranslate2.get_cuda_device_count() else "cpu"
        try:
            self._model = _load(folder, device, compute_type, threads)
        except (RuntimeError, ValueError) as error:
            if device == "cpu" or options.device != "auto":
                fix = "set device: cpu" if device == "cuda" else "set compute_type: auto, or another weights folder"
                raise UserError(str(folder), f"cannot be run on {device} as {compute_type}: {error}", fix) from error
            LOG.warning("Whisper cannot use the GPU, so it runs on the processor: %s", error)
            device = "cpu"
            self._model = _load(folder, device, compute_type, threads)
        self.device: Literal["cpu", "cuda"] = device
        self.compute_type: str = self._model.model.compute_type
        known = self._model.supported_languages
        if language and language not in known:
            fix = f"set `whisper: {{code: …}}` in the language's YAML to a related one: {did_you_mean(language, known)}"
            raise UserError(f"Whisper language '{language}'", "Whisper does not know it", fix)
        self.language = language

    def transcribe(self, audio: "npt.NDArray[np.float32]") -> Transcript:
        """Transcribe (samples,), mono, 16 kHz, of any length."""
        options, duration_s = self._options, len(audio) / SAMPLE_RATE_HZ
        if not len(audio):
            return Transcript((), 0.0, self.language)
        segments, info = self._model.transcribe(
            audio,
            language=self.language or None,
            beam_size=options.beam_size,
            best_of=options.best_of,
            temperature=list(options.temperatures),
            compression_ratio_threshold=options.compression_ratio_threshold,
            log_prob_threshold=options.log_prob_threshold,
            no_speech_threshold=options.no_speech_threshold,
            condition_on_previous_text=options.condition_on_previous_text,
            vad_filter=options.vad_filter,
            without_timestamps=options.timestamps == "long" and duration_s <= WINDOW_S,
        )
        return Transcript(tuple(_segments(segments, duration_s)), duration_s, info.language)


def _segments(segments: Any, duration_s: float) -> Iterator[Segment]:
    """The segments as they are found, their times kept inside the recording: the last window is padded."""
    for segment in segments:
        start_s, end_s = (round(min(max(seconds, 0.0), duration_s), 3) for seconds in (segment.start, segment.end))
        yield Segment(start_s, end_s, segment.text.strip())


def _load(folder: Path, device: str, compute_type: str, threads: int) -> Any:
    """A faster-whisper model that has been seen to work."""
    import ctranslate2
    import faster_whisper
    import numpy as np

    if compute_type == "auto":
        compute_type = "float16" if device == "cuda" else "int8"
    ctranslate2.set_random_seed(SEED)
    model = faster_whisper.WhisperModel(str(folder), device=device, compute_type=compute_type, cpu_threads=threads)
    if device == "cuda":  # a lack of cuBLAS only shows at the first use
        extractor = model.feature_extractor
        model.encode(np.zeros((extractor.mel_filters.shape[0], extractor.nb_max_frames), dtype=np.float32))
    return model


@dataclass(frozen=True, slots=True)
class UtteranceTranscriber:
    """Transcribes groups of audio files, each with a freshly loaded model; a function for `map_chunks`.

    As every group starts anew, the texts depend on the groups and not on the number of processes.
    """

    folder: Path  # CTranslate2 folder
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
        for row in rows:
            started = time.perf_counter()
            transcript = whisper.transcribe(load_utterance(row, self.manifest_folder, SAMPLE_RATE_HZ))
            out.append(Heard(transcript, time.perf_counter() - started, 0.0 if out else load_s))
        return out

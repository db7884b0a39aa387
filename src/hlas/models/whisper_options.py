"""What Whisper is asked to do: one set of options for both engines, with Whisper's own defaults where it has any."""

from dataclasses import dataclass
from typing import Literal

ENGINES = ("faster-whisper", "transformers")
Device = Literal["auto", "cpu", "cuda"]
SHORT_PADDING_S = 8.0  # as good as 30 s of window on clips of 3 s (docs/results/speed.md)
_COMPUTE_TYPES = {
    "faster-whisper": (
        *("auto", "int8", "int8_float32", "int8_float16", "int8_bfloat16", "int16", "float32", "float16", "bfloat16"),
    ),
    "transformers": ("auto", "float32", "float16", "bfloat16"),
}


@dataclass(frozen=True)
class WhisperOptions:
    """How Whisper decodes, the same whichever engine runs it. 'Own' says what OpenAI's program does by default."""

    engine: Literal["faster-whisper", "transformers"] = "faster-whisper"
    device: Device = "auto"
    compute_type: str = "auto"  # int8 (transformers: float32) on a CPU, float16 on a GPU; own: float16 on a GPU
    batch_size: int = 8  # windows that are decoded at once; own: 1
    beam_size: int = 5  # own: 5 on the command line. 1 (greedy) falls back on samples more often
    best_of: int = 5  # samples of which the best is taken, where the temperature is above 0; own: 5
    # tried one after another until a text is neither repetitive nor improbable; 0 takes the best, above 0 samples; own
    temperatures: tuple[float, ...] = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
    compression_ratio_threshold: float = 2.4  # a text that zlib shrinks by more is repetitive; own: 2.4
    log_prob_threshold: float = -1.0  # an average token below is improbable; own: -1
    no_speech_threshold: float = 0.6  # above, with an improbable text: silence; own: 0.6
    repetition_penalty: float = 1.0  # above 1, words already said become less likely; own: none (1)
    no_repeat_ngram_size: int = 0  # so many tokens in a row come only once; own: no such rule (0)
    condition_on_previous_text: bool = False  # own: True, which carries an error from window to window
    vad_filter: bool = False  # Silero's speech detector before it; own: none
    timestamps: Literal["long", "always"] = "long"  # long: only where a recording is longer than a window; own: always
    over_30_s: Literal["windows", "reject"] = "windows"  # longer recordings: as Whisper does, or no text and counted
    # silence after a clip in its window; none: up to 30 s, Whisper's own; auto: short, or as tuned weights were taught
    padding_s: float | Literal["auto"] | None = None

    def __post_init__(self) -> None:
        """Check the ranges, and that the engine can do what is asked."""
        if self.beam_size < 1 or self.best_of < 1 or self.batch_size < 1:
            raise ValueError("beam_size, best_of and batch_size are at least 1")
        if not self.temperatures or min(self.temperatures) < 0:
            raise ValueError("temperatures are a list of numbers, none below 0")
        if self.repetition_penalty <= 0 or self.no_repeat_ngram_size < 0:
            raise ValueError("repetition_penalty is above 0, no_repeat_ngram_size at least 0")
        if isinstance(self.padding_s, int | float) and not 0 <= self.padding_s <= 30:
            raise ValueError("padding_s is from 0 to 30, null for Whisper's own windows of 30 s, or auto")
        known = _COMPUTE_TYPES[self.engine]
        if self.compute_type not in known:
            raise ValueError(f"compute_type of {self.engine} is one of: {', '.join(known)}")

    @property
    def silence_s(self) -> float | None:
        """Silence after a clip in its window, s; none: as much as fills 30 s."""
        return SHORT_PADDING_S if self.padding_s == "auto" else self.padding_s

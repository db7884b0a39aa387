"""What an engine does for Whisper: encode windows, guess their language, draw texts. The rest is common to both."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

SAMPLE_RATE_HZ = 16000
WINDOW_S = 30.0  # what Whisper hears at once
FRAMES_PER_S = 100  # of the features; the encoder makes one out of two
WINDOW_FRAMES = 3000
MAX_POSITIONS = 448  # of the decoder: prompt and text
MAX_TEXT_TOKENS = 224  # of a window; OpenAI's limit
FIRST_TIMESTAMP_MAX = 50  # steps of 20 ms: the first word begins in the first second
MULTILINGUAL_TOKENS = 51865  # an English-only model has fewer
SEED = 1


@dataclass(frozen=True, slots=True)
class Drawn:
    """A text for one window at one temperature."""

    tokens: tuple[int, ...]  # after the prompt; without the end of the text
    avg_logprob: float  # natural log, a token, the end of the text counted
    no_speech_prob: float


class Engine(Protocol):
    """A loaded model."""

    device: Literal["cpu", "cuda"]
    compute_type: str
    mels: int  # bands of the features
    languages: tuple[str, ...]  # codes that the model knows
    tokenizer: Any  # tokenizers.Tokenizer

    def encode(self, features: "npt.NDArray[np.float32]") -> Any:
        """Encode (windows, mels, frames), of at most WINDOW_FRAMES frames; the engine's own form."""

    def pick(self, encoded: Any, windows: Sequence[int]) -> Any:
        """The same for some of the windows only."""

    def guess(self, encoded: Any) -> list[str]:
        """The likeliest language's code for each window."""

    def draw(self, encoded: Any, prompts: Sequence[Sequence[int]], temperature: float) -> list[Drawn]:
        """A text for each window; all prompts are as long.

        At temperature 0 a beam search, above it the best of some samples. The generator of the samples is seeded when
        the engine is loaded.
        """


def text_room(prompt_tokens: int) -> int:
    """Tokens that may follow a prompt."""
    return min(MAX_TEXT_TOKENS, MAX_POSITIONS - prompt_tokens)

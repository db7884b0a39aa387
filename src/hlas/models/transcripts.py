"""What was heard in one recording: text with times, whichever model heard it, and how sure Whisper was."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of speech."""

    start_s: float
    end_s: float
    text: str


@dataclass(frozen=True, slots=True)
class Decoding:
    """How a window of at most 30 s was decoded; numbers as in OpenAI's program."""

    temperature: float  # of the text that was taken; above 0: those below it gave a bad one
    avg_logprob: float  # natural log probability a token, the end of the text among them
    compression_ratio: float  # bytes of the text / bytes of the same after zlib
    no_speech_prob: float
    doubts: tuple[str, ...] = ()  # of DOUBTS: what is wrong with the text after all temperatures


DOUBTS = {
    "silence": "taken for silence: nothing to hear, or no speech is likely and the text is not; no text was taken",
    "no_speech": "no speech is likely, yet the text is probable",
    "repetitive": "the text repeats itself, at every temperature",
    "improbable": "the text is improbable, at every temperature",
    "over_30_s": "longer than 30 s, and such recordings are rejected: no text",
}


def count_doubts(doubts: Iterable[Sequence[str]]) -> dict[str, int]:
    """Number of texts by doubt, from the doubts of each; in the order of DOUBTS, then names that it lacks."""
    counts = Counter(name for of_text in doubts for name in of_text)
    return {name: counts[name] for name in (*DOUBTS, *sorted(counts)) if counts[name]}


@dataclass(frozen=True, slots=True)
class Transcript:
    """One recording."""

    segments: tuple[Segment, ...]
    duration_s: float
    language: str = ""  # code that Whisper was told or has guessed; '' for other models
    decodings: tuple[Decoding, ...] = ()  # one a window; empty for other models
    rejected: bool = False  # too long for what was asked: not heard at all

    @property
    def text(self) -> str:
        """All segments' text, single spaces."""
        return " ".join(" ".join(segment.text for segment in self.segments).split())

    @property
    def doubts(self) -> tuple[str, ...]:
        """Names of what speaks against the text, in the order of DOUBTS, each once."""
        found = {doubt for decoding in self.decodings for doubt in decoding.doubts}
        return tuple(name for name in DOUBTS if name in found or (name == "over_30_s" and self.rejected))

"""What was heard in one recording: text with times, whichever model heard it."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of speech."""

    start_s: float
    end_s: float
    text: str


@dataclass(frozen=True, slots=True)
class Transcript:
    """One recording."""

    segments: tuple[Segment, ...]
    duration_s: float
    language: str = ""  # code that Whisper was told or has guessed; '' for other models

    @property
    def text(self) -> str:
        """All segments' text, single spaces."""
        return " ".join(" ".join(segment.text for segment in self.segments).split())

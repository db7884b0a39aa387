"""What becomes of the clips of a corpus: the part `audio:` of a manifests spec. Light, as a plan imports it."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Trim:
    """Silence cut from both ends of a clip; pauses inside stay."""

    below_db: float = 40.0  # a 20 ms frame this far below the loudest one is silence
    margin_s: float = 0.1  # of it left at each end

    def __post_init__(self) -> None:
        """Refuse what would cut speech."""
        if self.below_db <= 0:
            raise ValueError("audio.trim.below_db is not above 0")
        if self.margin_s < 0:
            raise ValueError("audio.trim.margin_s is below 0")


@dataclass(frozen=True, slots=True)
class Loudness:
    """One loudness for all clips, by ITU-R BS.1770-4."""

    target_lufs: float = -23.0  # EBU R 128's level
    peak_dbfs: float = -1.0  # the gain stops where the highest sample gets here

    def __post_init__(self) -> None:
        """Refuse levels that 16-bit samples cannot have."""
        if not -70 < self.target_lufs < 0:
            raise ValueError("audio.loudness.target_lufs is not between -70 and 0")
        if not -40 <= self.peak_dbfs <= 0:
            raise ValueError("audio.loudness.peak_dbfs is not between -40 and 0")


@dataclass(frozen=True, slots=True)
class AudioOptions:
    """The clips that are written, or that the manifests lead to."""

    format: Literal["wav", "flac", "keep"] = "wav"  # flac: 43 % smaller; keep: the corpus' own files, nothing written
    sample_rate_hz: int = 16000
    trim: Trim | None = None
    loudness: Loudness | None = None
    trust_durations: bool = False  # keep: a duration that the corpus states is taken without opening the file

    def __post_init__(self) -> None:
        """Refuse options that contradict each other."""
        if self.sample_rate_hz < 8000:
            raise ValueError("audio.sample_rate_hz is less than 8000")
        if self.format == "keep" and (self.trim or self.loudness):
            raise ValueError("audio.format keep leaves the files as they are: no trim and no loudness")
        if self.format != "keep" and self.trust_durations:
            raise ValueError("audio.trust_durations is for format keep: converted clips are measured")

"""What the stage `augment` synthesises: the parts of manifests/augment.yaml. Light, as a plan imports it."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class ColouredOptions:
    """Noise whose power density falls with the frequency f."""

    clips: int = 4  # of each colour
    colours: tuple[Literal["white", "pink", "brown"], ...] = ("white", "pink", "brown")  # 1, 1/f, 1/f²

    def __post_init__(self) -> None:
        """Refuse a negative number."""
        if self.clips < 0:
            raise ValueError("coloured.clips is below 0")
        if len(set(self.colours)) < len(self.colours):
            raise ValueError("coloured.colours names one twice")


@dataclass(frozen=True, slots=True)
class BabbleOptions:
    """Several speakers at once, from the manifest that `speech` names."""

    clips: int = 24
    talkers: tuple[int, int] = (4, 8)  # fewest and most of a clip

    def __post_init__(self) -> None:
        """Refuse a range without a talker."""
        if self.clips < 0:
            raise ValueError("babble.clips is below 0")
        if not 1 <= self.talkers[0] <= self.talkers[1]:
            raise ValueError("babble.talkers is no range of at least 1")


@dataclass(frozen=True, slots=True)
class RoomOptions:
    """Shoe-box rooms drawn evenly from these ranges."""

    count: int = 48
    min_size_m: tuple[float, float, float] = (3.0, 3.0, 2.4)  # length, width, height
    max_size_m: tuple[float, float, float] = (10.0, 8.0, 3.5)
    rt60_s: tuple[float, float] = (0.2, 0.7)  # until the sound is 60 dB softer, by Sabine's formula
    distance_m: tuple[float, float] = (0.3, 2.5)  # from mouth to microphone

    def __post_init__(self) -> None:
        """Refuse ranges that no room fits."""
        if self.count < 0:
            raise ValueError("simulated_rooms.count is below 0")
        if not all(2 <= low <= high for low, high in zip(self.min_size_m, self.max_size_m, strict=True)):
            raise ValueError("simulated_rooms.min_size_m is below 2 m or above simulated_rooms.max_size_m")
        if not 0.05 <= self.rt60_s[0] <= self.rt60_s[1] <= 3:
            raise ValueError("simulated_rooms.rt60_s is no range within 0.05 and 3 s")
        if not 0 < self.distance_m[0] <= self.distance_m[1]:
            raise ValueError("simulated_rooms.distance_m is no range above 0")

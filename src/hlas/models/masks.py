"""NeMo's SpecCutout mended: it fails on a batch that is shorter than the longest rectangle."""

import random
from typing import Any


class PlaceAnywhere(random.Random):
    """Random numbers whose `randint` takes an empty range for its start.

    SpecCutout draws a rectangle's place from 0 to frames − rect_time; in a batch of clips shorter than rect_time
    (1.2 s in QuartzNet's recipe) there is no such place, and the training would end with a ValueError.
    """

    def randint(self, a: int, b: int) -> int:
        """An integer from a to b, both included; a where b lies below."""
        return super().randint(a, max(a, b))


def mend_cutout(model: Any) -> None:
    """Give a NeMo model's SpecCutout, where it has one, numbers that every batch length is fine with."""
    cutout = getattr(getattr(model, "spec_augmentation", None), "spec_cutout", None)
    if cutout is not None and hasattr(cutout, "_rng"):  # else a function that does nothing stands in its place
        cutout._rng = PlaceAnywhere()

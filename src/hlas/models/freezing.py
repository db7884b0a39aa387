"""What of a pretrained model stays as it is while the rest is trained: one vocabulary for NeMo and for Whisper."""

from typing import Literal

ExceptLast = dict[Literal["encoder_except_last"], int]
# none: all is trained; encoder: only what comes after it is; encoder_except_last: N - its last N blocks are, too;
# feature_encoder: what comes before the encoder's blocks (the subsampling convolutions) is frozen, all else trained
Freeze = Literal["none", "encoder", "feature_encoder"] | ExceptLast


def check_freeze(freeze: Freeze) -> None:
    """Raise ValueError where it is none of the four."""
    if isinstance(freeze, dict):
        blocks = freeze.get("encoder_except_last", 0)
        if len(freeze) != 1 or blocks < 1:
            raise ValueError("freeze: {encoder_except_last: N} names N, the last blocks that are trained, at least 1")

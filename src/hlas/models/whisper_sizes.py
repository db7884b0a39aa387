"""The sizes of OpenAI's Whisper: what an encoder is built from and what a checkpoint must fit."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Size:
    """The shape of a model (Radford et al. 2022, arXiv:2212.04356, table 1, and the later releases' configs)."""

    layers: int  # of the encoder
    width: int
    heads: int
    mels: int = 80  # bands of the features
    decoder_layers: int | None = None  # None: as many as the encoder's


SIZES = {
    "tiny": Size(4, 384, 6),
    "base": Size(6, 512, 8),
    "small": Size(12, 768, 12),
    "medium": Size(24, 1024, 16),
    "large-v1": Size(32, 1280, 20),
    "large-v2": Size(32, 1280, 20),
    "large-v3": Size(32, 1280, 20, mels=128),
    "large-v3-turbo": Size(32, 1280, 20, mels=128, decoder_layers=4),
}

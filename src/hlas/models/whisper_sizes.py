"""The sizes of OpenAI's Whisper: what an encoder is built from and what a checkpoint must fit."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Shape:
    """What tells the sizes apart; read off a file of weights or its config."""

    layers: int  # of the encoder
    width: int
    mels: int
    decoder_layers: int

    def __str__(self) -> str:
        """E.g. '6 layers of 512, a decoder of 6, 80 mel bands'."""
        return f"{self.layers} layers of {self.width}, a decoder of {self.decoder_layers}, {self.mels} mel bands"


@dataclass(frozen=True, slots=True)
class Size:
    """The shape of a model (Radford et al. 2022, arXiv:2212.04356, table 1, and the later releases' configs)."""

    layers: int  # of the encoder
    width: int
    heads: int
    mels: int = 80  # bands of the features
    decoder_layers: int | None = None  # None: as many as the encoder's

    @property
    def shape(self) -> Shape:
        """What its weights must have."""
        return Shape(self.layers, self.width, self.mels, self.decoder_layers or self.layers)


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
_TURBO, _TURBO_CONVERSION = "large-v3-turbo", "turbo"  # the one size whose CTranslate2 conversion has another name


def size_name(model: str) -> str:
    """The size's name of a model that may be named as its CTranslate2 conversion is."""
    return _TURBO if model == _TURBO_CONVERSION else model


def conversion_name(model: str) -> str:
    """The name of a size's CTranslate2 conversion."""
    return _TURBO_CONVERSION if model == _TURBO else model


def folder_names(model: str) -> tuple[str, ...]:
    """The names that a model's folder may have, the size's first."""
    return tuple(dict.fromkeys((size_name(model), conversion_name(model))))


def size_of(shape: Shape) -> str:
    """The size's name, two of them where they have one shape; else what the model is made of."""
    return " or ".join(name for name, size in SIZES.items() if size.shape == shape) or f"of {shape}"

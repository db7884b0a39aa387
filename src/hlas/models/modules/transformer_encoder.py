"""A plain Transformer as the encoder of a NeMo CTC model (N2): features -> hidden states, a frame for every four."""

import math

import torch
from nemo.collections.asr.parts.submodules.subsampling import ConvSubsampling
from nemo.core.classes.common import typecheck
from nemo.core.classes.module import NeuralModule
from nemo.core.neural_types import AcousticEncodedRepresentation, LengthsType, NeuralType, SpectrogramType
from torch import nn


class TransformerEncoder(NeuralModule):  # type: ignore[misc]  # NeMo is untyped here
    """Two strided convolutions (Dong et al. 2018), sinusoidal positions and self-attention (Vaswani et al. 2017).

    The layers are torch's own, normalised before each sublayer, which trains without a fragile warm-up (Xiong et al.
    2020, arXiv:2002.04745). A clip's frames do not depend on the padding of its batch; frames beyond its end are zeros.

    Arguments are called as those of NeMo's ConformerEncoder: `feat_in` mel bands, `d_model` channels (even, a multiple
    of `n_heads`), `ff_expansion_factor` for the width between a block's two linear layers.
    """

    subsampling_factor = 4

    def __init__(
        self,
        feat_in: int,
        n_layers: int,
        d_model: int,
        n_heads: int,
        ff_expansion_factor: int = 4,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        if d_model % 2 or d_model % n_heads:
            raise ValueError(f"d_model {d_model} is not even, or no multiple of n_heads {n_heads}")
        self._feat_in, self._feat_out = feat_in, d_model  # NeMo reads _feat_out
        self.d_model = d_model
        self.pre_encode = ConvSubsampling("striding", self.subsampling_factor, feat_in, d_model, d_model)
        self.dropout = nn.Dropout(dropout)
        width = d_model * ff_expansion_factor
        # not nn.TransformerEncoder, which copies one layer: all would start with the same weights
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(d_model, n_heads, width, dropout, "relu", batch_first=True, norm_first=True)
            for _ in range(n_layers)
        )
        self.norm = nn.LayerNorm(d_model)

    @property
    def input_types(self) -> dict[str, NeuralType]:
        """Features (B, feat_in, T) and their numbers of frames (B)."""
        return {
            "audio_signal": NeuralType(("B", "D", "T"), SpectrogramType()),
            "length": NeuralType(("B",), LengthsType()),
        }

    @property
    def output_types(self) -> dict[str, NeuralType]:
        """Hidden states (B, d_model, T / 4, rounded up) and their numbers of frames (B)."""
        return {
            "outputs": NeuralType(("B", "D", "T"), AcousticEncodedRepresentation()),
            "encoded_lengths": NeuralType(("B",), LengthsType()),
        }

    @typecheck()  # type: ignore[untyped-decorator]  # NeMo's
    def forward(self, audio_signal: torch.Tensor, length: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Hidden states (B, d_model, T') of features (B, feat_in, T), and their numbers of frames (B)."""
        x, frames = self.pre_encode(x=audio_signal.transpose(1, 2), lengths=length)  # (B, T', d_model)
        # as in the Transformer's paper: the embedding is scaled, so that the positions do not drown it
        x = self.dropout(x * math.sqrt(self.d_model) + positions(x.shape[1], self.d_model).to(x))
        beyond = torch.arange(x.shape[1], device=x.device) >= frames.clamp(min=1)[:, None]  # (B, T'), True: padding
        for layer in self.layers:
            x = layer(x, src_key_padding_mask=beyond)
        return self.norm(x).masked_fill(beyond[:, :, None], 0.0).transpose(1, 2), frames


def positions(frames: int, width: int) -> torch.Tensor:
    """Sinusoids (frames, width) of wavelengths from 2π to 10000 · 2π frames (Vaswani et al. 2017, section 3.5)."""
    angle = torch.arange(frames)[:, None] * torch.exp(torch.arange(0, width, 2) * (-math.log(10000.0) / width))
    return torch.stack((angle.sin(), angle.cos()), dim=2).flatten(1)

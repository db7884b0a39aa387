"""A recurrent CTC head: bidirectional LSTM layers under NeMo's linear decoder; encoder outputs -> log-probs."""

from collections.abc import Sequence

import torch
from nemo.collections.asr.modules.conv_asr import ConvASRDecoder
from nemo.core.classes.common import typecheck
from torch import nn


class LstmCtcDecoder(ConvASRDecoder):  # type: ignore[misc]  # NeMo has no types
    """NeMo's ConvASRDecoder on what LSTM layers make of the encoder's output.

    NeMo gives a decoder no lengths. A clip therefore ends with its last frame that is not exactly zero, so the encoder
    must have zeros beyond a clip's end (a WhisperEncoder has); the LSTM that runs backwards starts there, and padding
    changes nothing. `feat_in` is the encoder's width, `hidden` the LSTM's in each direction.

    Each direction of each layer is an LSTM of its own, the clips turned round for the backward ones: on a processor
    that takes half the time of torch's packed sequences.
    """

    def __init__(
        self,
        feat_in: int,
        num_classes: int,
        hidden: int = 320,
        layers: int = 2,
        dropout: float = 0.2,
        vocabulary: Sequence[str] | None = None,
    ) -> None:
        super().__init__(feat_in=2 * hidden, num_classes=num_classes, vocabulary=vocabulary)
        self.dropout = nn.Dropout(dropout)
        widths = [feat_in] + [2 * hidden] * (layers - 1)
        self.onward = nn.ModuleList(nn.LSTM(width, hidden, batch_first=True) for width in widths)
        self.back = nn.ModuleList(nn.LSTM(width, hidden, batch_first=True) for width in widths)

    @typecheck()  # type: ignore[untyped-decorator]  # NeMo has no types
    def forward(self, encoder_output: torch.Tensor) -> torch.Tensor:
        """Log-probs (B, T, num_classes + 1), blank last, of encoder outputs (B, D, T)."""
        turned = _turned(_frames(encoder_output), encoder_output.shape[2])[:, :, None]  # (B, T, 1)
        hidden = self.dropout(encoder_output.transpose(1, 2))
        for onward, back in zip(self.onward, self.back, strict=True):
            backward = back(hidden.gather(1, turned.expand_as(hidden)))[0]
            backward = backward.gather(1, turned.expand_as(backward))
            hidden = self.dropout(torch.cat([onward(hidden)[0], backward], dim=2))
        log_probs: torch.Tensor = super().forward(encoder_output=hidden.transpose(1, 2))
        return log_probs

    def input_example(self, max_batch: int = 1, max_dim: int = 256) -> tuple[torch.Tensor]:
        """An encoder output, for tracing."""
        first = self.onward[0]
        weight = first.weight_ih_l0
        return (torch.randn(max_batch, first.input_size, max_dim, device=weight.device, dtype=weight.dtype),)


def _frames(encoder_output: torch.Tensor) -> torch.Tensor:
    """Each clip's frames up to the last that is not zero, at least 1."""
    numbers = torch.arange(1, encoder_output.shape[2] + 1, device=encoder_output.device)
    return (encoder_output.ne(0).any(dim=1) * numbers).amax(dim=1).clamp(min=1)


def _turned(frames: torch.Tensor, longest: int) -> torch.Tensor:
    """Which frame stands where (B, T) when each clip is read from its end; what is beyond the end stays."""
    numbers = torch.arange(longest, device=frames.device).expand(len(frames), -1)
    return torch.where(numbers < frames[:, None], frames[:, None] - 1 - numbers, numbers)

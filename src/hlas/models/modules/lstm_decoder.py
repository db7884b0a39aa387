"""A recurrent CTC head: bidirectional LSTM layers under NeMo's linear decoder; encoder outputs -> log-probs."""

from collections.abc import Sequence

import torch
from nemo.collections.asr.modules.conv_asr import ConvASRDecoder
from nemo.core.classes.common import typecheck
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence


class LstmCtcDecoder(ConvASRDecoder):  # type: ignore[misc]  # NeMo has no types
    """NeMo's ConvASRDecoder on what LSTM layers make of the encoder's output.

    NeMo gives a decoder no lengths. A clip therefore ends with its last frame that is not exactly zero, so the encoder
    must have zeros beyond a clip's end (a WhisperEncoder has); the LSTM that runs backwards starts there, and padding
    changes nothing. `feat_in` is the encoder's width, `hidden` the LSTM's in each direction.
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
        between = dropout if layers > 1 else 0.0
        self.lstm = nn.LSTM(feat_in, hidden, layers, batch_first=True, dropout=between, bidirectional=True)

    @typecheck()  # type: ignore[untyped-decorator]  # NeMo has no types
    def forward(self, encoder_output: torch.Tensor) -> torch.Tensor:
        """Log-probs (B, T, num_classes + 1), blank last, of encoder outputs (B, D, T)."""
        frames = _frames(encoder_output)
        inputs = pack_padded_sequence(
            self.dropout(encoder_output.transpose(1, 2)), frames.cpu(), batch_first=True, enforce_sorted=False
        )
        hidden, _ = pad_packed_sequence(self.lstm(inputs)[0], batch_first=True, total_length=encoder_output.shape[2])
        log_probs: torch.Tensor = super().forward(encoder_output=self.dropout(hidden).transpose(1, 2))
        return log_probs

    def input_example(self, max_batch: int = 1, max_dim: int = 256) -> tuple[torch.Tensor]:
        """An encoder output, for tracing."""
        weight = self.lstm.weight_ih_l0
        return (torch.randn(max_batch, self.lstm.input_size, max_dim, device=weight.device, dtype=weight.dtype),)


def _frames(encoder_output: torch.Tensor) -> torch.Tensor:
    """Each clip's frames up to the last that is not zero, at least 1."""
    numbers = torch.arange(1, encoder_output.shape[2] + 1, device=encoder_output.device)
    return (encoder_output.ne(0).any(dim=1) * numbers).amax(dim=1).clamp(min=1)

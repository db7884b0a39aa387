"""Audio -> Whisper's windows: a clip's features and silence behind them, as the transcribe stage makes them."""

import torch
from torch import nn

from hlas.models.modules.whisper_mel import HOP, WhisperLogMel
from hlas.models.whisper_decoding import window_frames


class WhisperWindows(nn.Module):  # type: ignore[misc]  # torch is Any to mypy
    """Features of each clip, zeros up to the end of its own window; `length` counts the window's frames, of 10 ms."""

    padding_s: torch.Tensor

    def __init__(self, mels: int, padding_s: float | None) -> None:
        super().__init__()
        self.log_mel = WhisperLogMel(features=mels)
        self._padding_s = padding_s
        # in the state, as what is kept of an encoder depends on it
        self.register_buffer("padding_s", torch.tensor(-1.0 if padding_s is None else padding_s))

    def forward(self, input_signal: torch.Tensor, length: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Features (B, mels, T) of signals (B, samples), and the frames of their windows."""
        features, _ = self.log_mel(input_signal=input_signal, length=length)
        frames = torch.div(length, HOP, rounding_mode="floor").clamp(min=1)  # whole ones only, as there
        beyond = torch.arange(features.shape[2], device=frames.device) >= frames[:, None]
        features = features.masked_fill(beyond[:, None, :], 0.0)
        windows = torch.tensor([window_frames(int(n), self._padding_s) for n in frames], device=frames.device)
        missing = int(windows.max()) - features.shape[2]
        return nn.functional.pad(features, (0, missing)), windows

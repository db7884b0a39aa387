"""Whisper's log-mel features as a NeMo preprocessor: audio -> features, in front of a WhisperEncoder."""

import torch
from nemo.collections.asr.modules.audio_preprocessing import AudioPreprocessor

SAMPLE_RATE_HZ = 16000
WINDOW = 400  # samples, 25 ms
HOP = 160  # samples, 10 ms
FLOOR = 1e-10  # of the mel power
RANGE = 8.0  # log10 units below a clip's loudest value at which its features are cut off


class WhisperLogMel(AudioPreprocessor):  # type: ignore[misc]  # NeMo has no types
    """The features of transformers' WhisperFeatureExtractor, without its padding to 30 s.

    A clip has a frame for every begun 10 ms. Each frame is the one that the extractor computes for the same clip
    padded to 30 s, and does not depend on the other clips of a batch. Only where a clip ends within half a window of
    its thirtieth second do the two differ: the extractor mirrors the signal at the end of its window, here silence
    follows.

    `sample_rate`, `window_size` and `window_stride` are what NeMo and its users read from a preprocessor's config; the
    weights of Whisper allow one value for each. `features` is 80, from large-v3 on 128.
    """

    def __init__(
        self,
        sample_rate: int = SAMPLE_RATE_HZ,
        window_size: float = 0.025,
        window_stride: float = 0.01,
        features: int = 80,
    ) -> None:
        if (sample_rate, window_size, window_stride) != (SAMPLE_RATE_HZ, WINDOW / SAMPLE_RATE_HZ, HOP / SAMPLE_RATE_HZ):
            raise ValueError("Whisper's features need sample_rate 16000, window_size 0.025 and window_stride 0.01")
        super().__init__(WINDOW, HOP)
        from transformers.audio_utils import mel_filter_bank

        self._sample_rate = sample_rate  # NeMo reads it
        filters = mel_filter_bank(
            1 + WINDOW // 2, features, 0.0, SAMPLE_RATE_HZ / 2, SAMPLE_RATE_HZ, norm="slaney", mel_scale="slaney"
        )
        self.register_buffer("filters", torch.from_numpy(filters.T).to(torch.float32), persistent=False)
        self.register_buffer("window", torch.hann_window(WINDOW), persistent=False)

    def get_features(self, input_signal: torch.Tensor, length: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Features (B, features, T) of signals (B, samples) of the given lengths, and their numbers of frames."""
        with torch.autocast(input_signal.device.type, enabled=False):
            beyond = torch.arange(input_signal.shape[1], device=length.device) >= length[:, None]
            # silence after the longest clip, too: what torch mirrors at the end must not reach a clip's last frames
            signal = torch.nn.functional.pad(input_signal.float().masked_fill(beyond, 0.0), (0, WINDOW))
            spectrum = torch.stft(signal, WINDOW, HOP, window=self.window.float(), return_complex=True)
            mel = self.filters.float() @ spectrum.abs().square()  # (B, features, frames)
            log_mel = mel.clamp(min=FLOOR).log10()
            log_mel = torch.maximum(log_mel, log_mel.amax(dim=(1, 2), keepdim=True) - RANGE)
            features = (log_mel + 4.0) / 4.0
        frames = torch.div(length + HOP - 1, HOP, rounding_mode="floor").clamp(min=1)
        features = features[:, :, : int(frames.max())]
        padding = torch.arange(features.shape[2], device=frames.device) >= frames[:, None]
        return features.masked_fill(padding[:, None, :], 0.0), frames

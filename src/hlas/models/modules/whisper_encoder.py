"""Whisper's encoder as the encoder of a NeMo CTC model: features -> hidden states, on inputs as long as the clip.

Whisper itself pads every clip to 30 s; cut to its length, a clip of 5 s costs a sixth. The layers are those of
`transformers`, so a Hugging Face folder's weights fit. The encoder runs in two parts, `lower` and `upper`: what is
frozen can be computed once for all epochs (see hlas.models.training.kept_outputs).
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from nemo.core.classes.common import typecheck
from nemo.core.classes.module import NeuralModule
from nemo.core.neural_types import AcousticEncodedRepresentation, LengthsType, NeuralType, SpectrogramType
from torch import nn

from hlas.errors import UserError, did_you_mean
from hlas.models.whisper_sizes import SIZES

POSITIONS = 1500  # frames of 20 ms for which there are position encodings
FRAME_S = 0.02


class WhisperEncoder(NeuralModule):  # type: ignore[misc]  # NeMo has no types
    """The encoder of one size, of which the chosen layers' outputs are put side by side.

    `layers` counts from 1; the last layer's output is normalised as Whisper's own, the others are the sums that run
    through the network, normalised without weights. Frames beyond a clip's end are exact zeros in the output, which
    an LstmCtcDecoder relies on.

    `pool` frames of 20 ms are averaged into one: a head that is recurrent takes half the time on 40 ms.
    `pretrained` is for the train stage: whether it loads Whisper's weights; built here, the encoder has random ones.
    """

    longest_s = POSITIONS * FRAME_S

    def __init__(
        self, size: str, layers: Sequence[int] = (), pool: int = 1, dropout: float = 0.0, pretrained: bool = True
    ) -> None:
        super().__init__()
        if size not in SIZES:
            raise UserError(f"WhisperEncoder size '{size}'", "no such size", did_you_mean(size, SIZES))
        shape = SIZES[size]
        chosen = sorted(set(layers or (shape.layers,)))
        if not 1 <= chosen[0] <= chosen[-1] <= shape.layers:
            raise UserError("WhisperEncoder layers", f"{list(layers)}", f"layers of {size} are 1 to {shape.layers}")
        from transformers.models.whisper import modeling_whisper

        config = modeling_whisper.WhisperConfig(
            num_mel_bins=shape.mels,
            d_model=shape.width,
            encoder_layers=shape.layers,
            encoder_attention_heads=shape.heads,
            encoder_ffn_dim=4 * shape.width,
            max_source_positions=POSITIONS,
            dropout=dropout,
        )
        self.size, self.pretrained = size, pretrained
        self._hold(modeling_whisper.WhisperEncoder(config), chosen, pool)

    @classmethod
    def around(cls, whisper: Any) -> "WhisperEncoder":
        """The encoder of one of transformers' models itself, its weights shared: the last layer's output."""
        encoder = cls.__new__(cls)
        NeuralModule.__init__(encoder)
        encoder.size, encoder.pretrained = "", True
        encoder._hold(whisper, [len(whisper.layers)], 1)
        return encoder

    def _hold(self, whisper: Any, chosen: Sequence[int], pool: int) -> None:
        self.pool = pool
        self.subsampling_factor = 2 * pool  # NeMo reads it, for times
        self.whisper = whisper
        self.chosen = list(chosen)
        config = whisper.config
        self._feat_in, self._feat_out = config.num_mel_bins, len(self.chosen) * config.d_model  # NeMo reads _feat_out

    @property
    def input_types(self) -> dict[str, NeuralType]:
        """Features (B, D, T) and their lengths."""
        return {
            "audio_signal": NeuralType(("B", "D", "T"), SpectrogramType()),
            "length": NeuralType(tuple("B"), LengthsType()),
        }

    @property
    def output_types(self) -> dict[str, NeuralType]:
        """Hidden states (B, D, T / 2 / pool) and their lengths."""
        return {
            "outputs": NeuralType(("B", "D", "T"), AcousticEncodedRepresentation()),
            "encoded_lengths": NeuralType(tuple("B"), LengthsType()),
        }

    def load_pretrained(self, folder: Path) -> None:
        """Take the weights from a Hugging Face folder of a Whisper of this size. Raises UserError."""
        from safetensors import SafetensorError, safe_open

        path = folder / "model.safetensors"
        try:
            with safe_open(path, framework="pt") as file:
                there = file.keys()  # the file itself cannot be iterated
                names = [name for name in there if name.removeprefix("model.").startswith("encoder.")]
                state = {name.partition("encoder.")[2]: file.get_tensor(name).float() for name in names}
        except (OSError, SafetensorError) as error:
            raise UserError(
                str(path), f"cannot be read: {error}", "a transformers folder of a Whisper model"
            ) from error
        try:
            self.whisper.load_state_dict(state)
        except RuntimeError as error:
            problem = f"not the weights of a Whisper {self.size}: {str(error).splitlines()[-1].strip()}"
            raise UserError(str(path), problem, "name the encoder's size after its weights") from error

    @typecheck()  # type: ignore[untyped-decorator]  # NeMo has no types
    def forward(self, audio_signal: torch.Tensor, length: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Hidden states of the chosen layers (B, layers * width, T / 2 / pool, rounded up) and their lengths."""
        return self.upper(*self.lower(audio_signal, length))

    def lower(
        self, audio_signal: torch.Tensor, length: torch.Tensor, last_layers: int = 0
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """All that `upper` needs of the network below its last layers: (B, D', T / 2) and lengths.

        Raises UserError where a clip is longer than the position encodings.
        """
        whisper = self.whisper
        if audio_signal.shape[1] != self._feat_in:
            problem = f"{audio_signal.shape[1]} features, where this Whisper needs {self._feat_in}"
            raise UserError("model.preprocessor", problem, f"features: {self._feat_in}")
        frames = torch.div(length + 1, 2, rounding_mode="floor")
        if (longest := int(frames.max())) > POSITIONS:
            raise UserError(
                "WhisperEncoder",
                f"a clip of {longest * FRAME_S:.1f} s, where its positions end at {self.longest_s:.0f} s",
                "leave longer clips out of training (train_ds.max_duration), cut them for transcription",
            )
        inside = (torch.arange(audio_signal.shape[2], device=length.device) < length[:, None])[:, None, :]
        # a convolution must find zeros beyond a clip's end, as if the clip stood alone
        hidden = nn.functional.gelu(whisper.conv1(audio_signal * inside)) * inside
        hidden = nn.functional.gelu(whisper.conv2(hidden)).transpose(1, 2)[:, :longest]  # (B, T, width)
        hidden = hidden + whisper.embed_positions.weight[: hidden.shape[1]]
        hidden = nn.functional.dropout(hidden, p=whisper.dropout, training=self.training)
        cut = len(whisper.layers) - last_layers
        wanted = self._kept_layers(last_layers)
        states = {0: hidden}
        mask = _attention_mask(frames, hidden.shape[1])
        for number, layer in enumerate(whisper.layers[:cut], 1):
            states = {n: states[n] for n in wanted if n in states}
            hidden = states[number] = layer(hidden, mask)
        return torch.cat([states[n] for n in wanted], dim=2).transpose(1, 2), frames

    def upper(
        self, kept: torch.Tensor, frames: torch.Tensor, last_layers: int = 0
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The encoder's output from what `lower` gave for the same number of last layers."""
        whisper = self.whisper
        wanted = self._kept_layers(last_layers)
        states = dict(zip(wanted, kept.transpose(1, 2).chunk(len(wanted), dim=2), strict=True))
        last = len(whisper.layers)
        hidden = states[wanted[-1]]
        mask = _attention_mask(frames, hidden.shape[1])
        for number in range(last - last_layers + 1, last + 1):
            hidden = states[number] = whisper.layers[number - 1](hidden, mask)
        width = (hidden.shape[2],)
        outputs = [
            whisper.layer_norm(states[n]) if n == last else nn.functional.layer_norm(states[n], width)
            for n in self.chosen
        ]
        inside = torch.arange(hidden.shape[1], device=frames.device) < frames[:, None]
        encoded = torch.cat(outputs, dim=2).masked_fill(~inside[:, :, None], 0.0).transpose(1, 2)
        if self.pool > 1:
            encoded = nn.functional.pad(encoded, (0, -encoded.shape[2] % self.pool))
            encoded = encoded.unflatten(2, (-1, self.pool)).mean(dim=3)
            frames = torch.div(frames + self.pool - 1, self.pool, rounding_mode="floor")
        return encoded, frames

    def _kept_layers(self, last_layers: int) -> list[int]:
        """The layers whose outputs `upper` starts from, in order; 0 is the layers' input."""
        last = len(self.whisper.layers)
        if not 0 <= last_layers <= last:
            raise UserError("encoder_except_last", f"{last_layers} of {last} layers", f"0 to {last}")
        cut = last - last_layers
        return sorted({n for n in self.chosen if n <= cut} | ({cut} if last_layers else set()))


def _attention_mask(frames: torch.Tensor, longest: int) -> torch.Tensor | None:
    """Which keys are seen (B, 1, 1, T); None where no clip is padded."""
    if bool((frames == longest).all()):
        return None
    seen: torch.Tensor = torch.arange(longest, device=frames.device) < frames[:, None]
    return seen[:, None, None, :]

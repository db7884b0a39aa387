"""A Whisper of transformers as a Lightning module that hlas's training code takes for one of NeMo's models.

It has their parts by their names (`preprocessor`, `spec_augmentation`, `encoder`, `tokenizer`, `cfg`), and so the
loaders, the kept outputs, freezing, the guards and the curve are the same for both.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import lightning.pytorch as lightning
import torch
from omegaconf import OmegaConf
from torch import nn

from hlas.models.finetuning.spelling import Spelling
from hlas.models.finetuning.windows import WhisperWindows
from hlas.models.modules.whisper_encoder import WhisperEncoder
from hlas.models.whisper_engine import FRAMES_PER_S, MAX_POSITIONS
from hlas.models.whisper_options import WhisperOptions
from hlas.models.whisper_transformers import TransformersEngine

IGNORED = -100  # torch's own mark of a position that the loss leaves out
GREEDY = WhisperOptions(engine="transformers", beam_size=1, best_of=1, temperatures=(0.0,))


@dataclass(frozen=True, slots=True)
class Heard:
    """What the encoder made of a batch."""

    encoded: torch.Tensor  # (B, T, width)
    frames: torch.Tensor  # (B,), those of each clip's window


class TunedWhisper(lightning.LightningModule):  # type: ignore[misc]  # lightning is untyped here
    """Next-token cross-entropy on the transcripts; validated by its greedy texts.

    Its state is what is trained: the frozen weights are the base's, and no checkpoint repeats them.
    """

    def __init__(self, whisper: Any, tokenizer: Any, cfg: Mapping[str, Any], language: str) -> None:
        """`cfg` has train_ds, validation_ds, optim … as NeMo's models have them."""
        super().__init__()
        self.cfg = OmegaConf.create({"preprocessor": {"sample_rate": cfg["sample_rate"]}, **cfg})
        self.whisper = whisper
        self.preprocessor = WhisperWindows(whisper.config.num_mel_bins, cfg["padding_s"])
        self.encoder = WhisperEncoder.around(whisper.model.encoder)
        self.spec_augmentation = _spec_augment(cfg["spec_augment"])
        self._engine = TransformersEngine.around(whisper, tokenizer, GREEDY)
        self.languages = self._engine.languages
        self.tokenizer = Spelling.of(tokenizer, self.languages, language)
        self._seen: torch.Tensor | None = None  # frames of the encoder that the decoder may look at, (B, 1, 1, T)
        for layer in whisper.model.decoder.layers:
            layer.register_forward_pre_hook(self._look_inside, with_kwargs=True)
        self._train_dl: Any = None
        self._validation_dl: Any = None

    def _look_inside(self, layer: Any, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        """Windows of a batch differ in length, and transformers' decoder would look beyond a shorter one's end."""
        return args, {**kwargs, "encoder_attention_mask": self._seen}

    def hear(self, batch: Any) -> Heard:
        """Encode a batch: of audio, or of kept outputs (hlas.models.training.kept_outputs)."""
        signal, length, _, _ = batch
        if getattr(batch, "has_processed_signal", False):
            features, windows, clips = signal, length, length
        else:
            features, windows = self.preprocessor(input_signal=signal, length=length)
            clips = torch.ceil(length * FRAMES_PER_S / self.cfg.sample_rate).long()
        if self.training and self.spec_augmentation is not None:
            features = self.spec_augmentation(input_spec=features, length=clips)
        encoded, frames = self.encoder(audio_signal=features, length=windows)
        encoded = encoded.transpose(1, 2)
        seen = torch.arange(encoded.shape[1], device=frames.device) < frames[:, None]
        self._seen = None if bool(seen.all()) else seen[:, None, None, :]
        return Heard(encoded, frames)

    def logits(self, heard: Heard, tokens: torch.Tensor) -> torch.Tensor:
        """Logits (B, U, vocabulary) of what follows each of the tokens (B, U)."""
        decoded = self.whisper.model.decoder(
            input_ids=tokens, encoder_hidden_states=heard.encoded, use_cache=False
        ).last_hidden_state
        logits: torch.Tensor = self.whisper.proj_out(decoded)
        return logits

    def loss(self, heard: Heard, tokens: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """Mean cross-entropy a token of text and end, natural log; `tokens` (B, U) hold prompt, text, end."""
        tokens = tokens[:, : MAX_POSITIONS + 1]  # dev may have a text that is longer than all that Whisper can write
        wanted = tokens[:, 1:].clone()
        place = torch.arange(1, tokens.shape[1], device=tokens.device)
        wanted[(place < len(self.tokenizer.prompt)) | (place >= lengths[:, None])] = IGNORED
        logits = self.logits(heard, tokens[:, :-1]).float()
        smoothing = self.cfg.label_smoothing if self.training else 0.0
        loss: torch.Tensor = nn.functional.cross_entropy(
            logits.flatten(0, 1), wanted.flatten(), ignore_index=IGNORED, label_smoothing=smoothing
        )
        return loss

    def training_step(self, batch: Any, index: int) -> torch.Tensor:
        """The batch's loss."""
        return self.loss(self.hear(batch), batch[2], batch[3])

    def validation_step(self, batch: Any, index: int) -> dict[str, Any]:
        """The batch's loss, and what is heard in it."""
        heard = self.hear(batch)
        loss = self.loss(heard, batch[2], batch[3])
        words = int((batch[3] - len(self.tokenizer.prompt)).sum())  # so that the split's loss is the mean of its tokens
        self.log("val_loss", loss, batch_size=words, on_epoch=True, sync_dist=self.trainer.world_size > 1)
        drawn = self._engine.draw(heard.encoded, [self.tokenizer.prompt] * len(heard.frames), 0.0)
        return {"val_loss": loss, "texts": [self.tokenizer.text(one.tokens) for one in drawn]}

    def configure_optimizers(self) -> dict[str, Any]:
        """NeMo's optimisers and schedules, by its keys; no weight decay on biases and normalisations."""
        from nemo.core.optim import optimizers
        from nemo.core.optim.lr_scheduler import prepare_lr_scheduler

        config: Any = OmegaConf.to_container(self.cfg.optim, resolve=True)
        sched = config.pop("sched", None)
        decay = config.get("weight_decay", 0.0)
        learnt = [p for p in self.parameters() if p.requires_grad]
        groups = [
            {"params": [p for p in learnt if p.ndim > 1], "weight_decay": decay},
            {"params": [p for p in learnt if p.ndim < 2], "weight_decay": 0.0},
        ]
        make = optimizers.get_optimizer(config.pop("name"), **config)
        self._optimizer = make([group for group in groups if group["params"]], **config)
        if not sched:
            return {"optimizer": self._optimizer}
        schedule = prepare_lr_scheduler(optimizer=self._optimizer, scheduler_config=OmegaConf.create(sched))
        return {"optimizer": self._optimizer, "lr_scheduler": schedule}

    def train_dataloader(self) -> Any:
        """Set by the stage."""
        return self._train_dl

    def val_dataloader(self) -> Any:
        """Set by the stage."""
        return self._validation_dl

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """The trained weights alone."""
        state = super().state_dict(*args, **kwargs)
        return {name: state[name] for name in self.trained_names()}

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Take the trained weights; the rest stays. RuntimeError where they are another model's."""
        if strict and (wrong := set(state_dict) ^ set(self.trained_names())):
            raise RuntimeError(f"not the weights that are trained here: {min(wrong)}")
        return super().load_state_dict(state_dict, strict=False, assign=assign)

    def trained_names(self) -> list[str]:
        """Names of the parameters that are trained."""
        return [name for name, parameter in self.named_parameters() if parameter.requires_grad]


def _spec_augment(options: Mapping[str, Any] | None) -> Any:
    from nemo.collections.asr.modules import SpectrogramAugmentation

    return SpectrogramAugmentation(**options) if options else None

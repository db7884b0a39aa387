"""Outputs of the frozen part of an encoder, computed once and read from a memory map in every epoch.

manifest rows -> `keep_outputs` -> a folder -> `KeptOutputs.dataset` -> NeMo's own training and validation steps, with
the model inside `kept_encoder`, where its encoder computes only what is trained. Speed variants of the clips are kept
side by side, and every epoch draws one of each, so that some augmentation of the audio survives the keeping;
SpecAugment works on the kept outputs.
"""

import hashlib
import logging
import random
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from math import inf
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import torch
from nemo.collections.asr.data.audio_to_text_dali import DALIOutputs

from hlas.errors import UserError
from hlas.files import read_json, sha256_json, write_json
from hlas.manifests.audio.files import load_utterance
from hlas.manifests.rows import Row, audio_path
from hlas.models.nemo_ctc import Audio, batches, evaluating
from hlas.models.training.memory import in_parts
from hlas.progress import track

ARRAY, INDEX, RECORD = "outputs.f16", "index.npy", "kept.json"
BATCH_S = 40.0  # seconds of audio in a batch, padding counted
Item = tuple[torch.Tensor, torch.Tensor]  # outputs (frames, D) and tokens (labels,)


def can_keep(encoder: Any, last_layers: int) -> bool:
    """Whether what is below the last layers can be computed on its own; a whole encoder always can."""
    return last_layers == 0 or (hasattr(encoder, "lower") and hasattr(encoder, "upper"))


@contextmanager
def kept_encoder(model: Any, last_layers: int = 0) -> Iterator[None]:
    """Let `model.encoder` take kept outputs in place of features and compute only its last layers from them.

    The module stays where it is, and so do its parameters and their names: checkpoints are the same inside and outside.
    """
    encoder = model.encoder

    def rest(audio_signal: torch.Tensor, length: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        if hasattr(encoder, "upper"):
            outputs: tuple[torch.Tensor, torch.Tensor] = encoder.upper(audio_signal, length, last_layers)
            return outputs
        # a tensor of its own: SpecAugment's carries NeMo's mark of a spectrogram, which a decoder does not take
        return audio_signal.view_as(audio_signal), length

    encoder.forward = rest  # an instance's own attribute goes before its class's method
    try:
        yield
    finally:
        del encoder.forward


@dataclass(frozen=True)
class KeptOutputs:
    """The kept outputs of one manifest's rows, at each of the speeds."""

    path: Path
    width: int  # D
    speeds: tuple[float, ...]
    pool: int  # kept frames that the rest of the encoder makes one of
    index: npt.NDArray[np.int64]  # (rows, speeds, 2): first frame and frames; frames 0 where the variant is too long

    @classmethod
    def open(cls, path: Path) -> "KeptOutputs":
        """What `keep_outputs` has finished in this folder."""
        record = read_json(path / RECORD)
        index = np.load(path / INDEX, allow_pickle=False)
        return cls(path, record["width"], tuple(record["speeds"]), record["pool"], index)

    def dataset(self, tokens: Sequence[Sequence[int]], seed: int = 1, augment: bool = False) -> "KeptDataset":
        """The rows with their labels' numbers; `augment` draws among the speeds, else each clip is at its own."""
        return KeptDataset(self, tokens, seed, augment)


class KeptDataset(torch.utils.data.Dataset):  # type: ignore[misc]  # torch is Any to mypy
    """Row i of the manifest is item i; which speed it has follows from (seed, epoch, i) alone."""

    def __init__(self, kept: KeptOutputs, tokens: Sequence[Sequence[int]], seed: int, augment: bool) -> None:
        if len(tokens) != len(kept.index):
            raise ValueError(f"{len(tokens)} transcripts for {len(kept.index)} clips")
        self._kept, self._tokens, self._seed, self._augment = kept, tokens, seed, augment
        self._epoch = 0
        self._frames: npt.NDArray[np.float16] | None = None
        # CTC needs a frame a label, and one between two equal ones
        needed = [len(t) + sum(a == b for a, b in pairwise(t)) for t in tokens]
        self._usable = -(-kept.index[:, :, 1] // kept.pool) >= np.maximum(needed, 1)[:, None]  # (rows, speeds)

    def __len__(self) -> int:
        return len(self._tokens)

    def set_epoch(self, epoch: int) -> None:
        """Draw the speeds of this epoch; before the loader's workers start."""
        self._epoch = epoch

    def __getitem__(self, item: int) -> Item:
        """Outputs (frames, D), float32, and tokens."""
        first, frames = self._kept.index[item, self._speed(item)]
        if self._frames is None:  # each worker maps the file itself
            self._frames = np.memmap(self._kept.path / ARRAY, dtype=np.float16, mode="r").reshape(-1, self._kept.width)
        outputs = torch.from_numpy(self._frames[first : first + frames].astype(np.float32))
        return outputs, torch.tensor(self._tokens[item], dtype=torch.long)

    def _speed(self, item: int) -> int:
        """The variant's place among the speeds."""
        own = self._kept.speeds.index(1.0)
        choices = np.flatnonzero(self._usable[item])
        if not self._augment or not len(choices):
            return own
        return int(random.Random(f"{self._seed} {self._epoch} {item}").choice(choices))

    @staticmethod
    def collate_fn(items: Sequence[Item]) -> "KeptBatch":
        """A batch: outputs (B, D, T) padded with zeros, their lengths, tokens, their lengths."""
        from torch.nn.utils.rnn import pad_sequence

        outputs, tokens = zip(*items, strict=True)
        return KeptBatch(
            pad_sequence(list(outputs), batch_first=True).transpose(1, 2),
            torch.tensor([len(o) for o in outputs]),
            pad_sequence(list(tokens), batch_first=True),
            torch.tensor([len(t) for t in tokens]),
        )


class KeptBatch(DALIOutputs):  # type: ignore[misc]  # NeMo has no types
    """NeMo's own type of batches whose signal is made already, which Lightning can also move and count."""

    def __init__(self, *tensors: torch.Tensor) -> None:
        names = ("processed_signal", "processed_signal_len", "transcript", "transcript_len")
        super().__init__(dict(zip(names, tensors, strict=True)))

    def __iter__(self) -> Iterator[torch.Tensor]:
        return (self[i] for i in range(len(self)))

    def to(self, device: torch.device, **how: Any) -> "KeptBatch":
        """The batch on that device."""
        return KeptBatch(*(tensor.to(device, **how) for tensor in self))

    def pin_memory(self) -> "KeptBatch":
        """The batch in memory that a GPU can read while it computes."""
        return KeptBatch(*(tensor.pin_memory() for tensor in self))


def keep_outputs(
    model: Any,
    rows: Sequence[Row],
    folder: Path,
    path: Path,
    *,
    speeds: Sequence[float] = (1.0,),
    last_layers: int = 0,
    log: logging.Logger,
) -> KeptOutputs:
    """Compute the frozen encoder's outputs of every row, at every speed, into the folder `path`.

    `folder` is the manifest's; `last_layers` the N of `{encoder_except_last: N}`, 0 for a wholly frozen encoder. The
    clip at its own speed is always among the variants. Taken as it is if it is whole and of the same weights, rows and
    speeds, else made anew. Raises UserError where the disk is too small, or the memory for a single clip.
    """
    factors = tuple(sorted({1.0, *(float(s) for s in speeds)}))
    made_of = _made_of(model, rows, factors, last_layers)
    if (path / RECORD).is_file() and read_json(path / RECORD)["made_of"] == made_of:
        return KeptOutputs.open(path)
    partial = path.with_name(f".{path.name}.partial")
    for old in (path, partial):
        shutil.rmtree(old, ignore_errors=True)
    partial.mkdir(parents=True)
    with (partial / ARRAY).open("wb") as file, evaluating(model):
        index, width = _write(file, _computed(model, rows, folder, factors, last_layers), (len(rows), len(factors)))
    np.save(partial / INDEX, index, allow_pickle=False)
    pool = getattr(model.encoder, "pool", 1)
    write_json(partial / RECORD, {"made_of": made_of, "width": width, "speeds": factors, "pool": pool})
    partial.rename(path)
    left_out = int((index[:, :, 1] == 0).sum())
    log.info(
        "kept the frozen encoder's outputs of %d clips at %d speeds, %.0f MB%s",
        len(rows),
        len(factors),
        index[:, :, 1].sum() * width * 2 / 1e6,
        f"; {left_out} variants left out: slower, they are longer than the encoder can take" if left_out else "",
    )
    return KeptOutputs.open(path)


def _write(
    file: BinaryIO, computed: Iterable[tuple[tuple[int, int], npt.NDArray[np.float16]]], shape: tuple[int, int]
) -> tuple[npt.NDArray[np.int64], int]:
    """Write the outputs one after another; returns their index and width."""
    index = np.zeros((*shape, 2), dtype=np.int64)
    width = 0
    for (row, speed), outputs in computed:
        width = outputs.shape[1]
        index[row, speed] = file.tell() // (2 * width), len(outputs)
        try:
            file.write(np.ascontiguousarray(outputs).data)
        except OSError as error:
            raise UserError(file.name, f"cannot be written: {error}", "make room, or leave keep_outputs out") from error
    return index, width


def _made_of(model: Any, rows: Sequence[Row], speeds: Sequence[float], last_layers: int) -> str:
    """A hash of all that decides the outputs."""
    weights = hashlib.sha256()
    for name, tensor in [*model.preprocessor.state_dict().items(), *model.encoder.state_dict().items()]:
        weights.update(name.encode())
        weights.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    clips = [(row.audio_filepath, row.offset, row.duration) for row in rows]
    return sha256_json([weights.hexdigest(), clips, list(speeds), last_layers])


def _computed(
    model: Any, rows: Sequence[Row], folder: Path, speeds: Sequence[float], last_layers: int
) -> Iterator[tuple[tuple[int, int], npt.NDArray[np.float16]]]:
    """((row, speed), outputs (frames, D)) of all variants that the encoder can take, the longest first."""
    rate = int(model.cfg.preprocessor.sample_rate)
    longest_s = getattr(model.encoder, "longest_s", inf)
    variants = [
        (row, speed)
        for row in range(len(rows))
        for speed, factor in enumerate(speeds)
        if factor >= 1.0 or rows[row].duration / factor < longest_s
    ]
    durations_s = [rows[row].duration / speeds[speed] for row, speed in variants]

    def outputs_of(group: Sequence[int]) -> list[npt.NDArray[np.float16]]:
        chosen = [variants[i] for i in group]
        audio = [at_speed(load_utterance(rows[row], folder, rate), speeds[speed], rate) for row, speed in chosen]
        return list(_outputs(model, audio, last_layers))

    def named(i: int) -> str:
        clip = audio_path(rows[variants[i][0]], folder).resolve()
        return f"the outputs of {clip}, {durations_s[i]:.1f} s"

    groups = list(batches(durations_s, BATCH_S))
    for group in track(groups, "encoder outputs", len(groups), "batches"):
        outputs = in_parts(group, outputs_of, "keep_outputs", named)
        yield from zip([variants[i] for i in group], outputs, strict=True)


def at_speed(audio: Audio, factor: float, sample_rate_hz: int) -> Audio:
    """The clip played `factor` times as fast: time and pitch change together, as in Kaldi's speed perturbation."""
    if factor == 1.0:
        return audio
    import soxr

    resampled: Audio = soxr.resample(audio, sample_rate_hz * factor, sample_rate_hz)
    return resampled


def _outputs(model: Any, audio: Sequence[Audio], last_layers: int) -> Iterator[npt.NDArray[np.float16]]:
    device = next(model.parameters()).device
    lengths = torch.tensor([len(a) for a in audio], device=device)
    signal = torch.nn.utils.rnn.pad_sequence([torch.from_numpy(a) for a in audio], batch_first=True).to(device)
    with torch.no_grad():
        features, frames = model.preprocessor(input_signal=signal, length=lengths)
        if hasattr(model.encoder, "lower"):
            outputs, frames = model.encoder.lower(features, frames, last_layers)
        else:
            outputs, frames = model.encoder(audio_signal=features, length=frames)[:2]
    kept = outputs.transpose(1, 2).to(torch.float16).cpu().numpy()
    for clip, count in zip(kept, frames.tolist(), strict=True):
        if not np.isfinite(clip[:count]).all():
            raise UserError("keep_outputs", "the encoder's outputs go beyond float16", "leave keep_outputs out")
        yield clip[:count]

"""Log-probs on disk: what an acoustic model hands to every search, one memory-mapped array a split.

`<split>.npy`          (frames of all utterances, vocabulary + 1), float16 or float32, natural log, blank last
`<split>.index.jsonl`  a manifest row each with `first_frame` and `frames`
`vocabulary.json`      {"tokens": […], "unit": "char" | "bpe", "frame_s": seconds a frame}
`timing.json`          {split: {"audio_s", "seconds"}}: seconds of the acoustic model

Any system's log-probs can be imported by writing these files.
"""

import json
import operator
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from hlas.errors import UserError
from hlas.files import read_json, write_json, write_json_lines
from hlas.manifests.rows import Row, row_from_json

Array = npt.NDArray[Any]
WORD_START = "▁"  # SentencePiece's mark of a piece that begins a word
_FLOAT_BYTES = (2, 4, 8)
_ANEW = "make the log-probs anew"
_VOCABULARY = '{"tokens": [texts], "unit": "char" or "bpe", "frame_s": seconds}'


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """The labels of a CTC model without the blank, which is the last column of its log-probs."""

    tokens: tuple[str, ...]
    unit: str  # 'char': tokens are characters, ' ' among them; 'bpe': SentencePiece pieces with '▁'
    frame_s: float  # seconds of audio a frame stands for

    @property
    def blank(self) -> int:
        """Column of the blank."""
        return len(self.tokens)

    def text(self, ids: Iterable[int]) -> str:
        """The text of token ids (blanks and repeats already removed)."""
        joined = "".join(self.tokens[i] for i in ids)
        return " ".join((joined.replace(WORD_START, " ") if self.unit == "bpe" else joined).split())


class BadLogProbs(ValueError):
    """A frame that is no distribution; whoever knows the utterance's name makes a UserError of it."""

    def __init__(self, frame: int, position: int = 0) -> None:
        super().__init__(frame, position)
        self.frame, self.position = frame, position  # position: of the utterance in the batch that was given

    def in_utterance(self, log_probs: "LogProbs", utterance: "Utterance") -> UserError:
        """The error as a user meets it."""
        where = f"{log_probs.folder}, {log_probs.split}: utterance {utterance.row.utterance}, frame {self.frame}"
        problem = "NaN, +inf or nothing but -inf among the log-probs"
        return UserError(where, problem, "make the log-probs anew: the model or its input is broken")


def normalised(frames: Array) -> Array:
    """The log-softmax of each frame in float64: (frames, labels); half precision does not sum to one.

    Raises BadLogProbs at the first frame that is no distribution.
    """
    logits = frames.astype(np.float64)
    largest = logits.max(axis=1, keepdims=True)
    bad = ~np.isfinite(largest[:, 0])
    if bad.any():
        raise BadLogProbs(int(bad.argmax()))
    logits -= largest
    logits -= np.log(np.exp(logits).sum(axis=1, keepdims=True))
    return logits


@dataclass(frozen=True, slots=True)
class Utterance:
    """Where one utterance's frames lie."""

    row: Row
    first_frame: int
    frames: int


@dataclass(frozen=True, slots=True)
class LogProbs:
    """The log-probs of one split, read lazily."""

    folder: Path
    split: str
    vocabulary: Vocabulary
    utterances: tuple[Utterance, ...]

    def frames(self) -> Array:
        """All frames, memory-mapped read-only: (frames of all utterances, vocabulary + 1)."""
        path = array_path(self.folder, self.split)
        try:
            mapped = np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise UserError(str(path), f"not a whole array: {error}", _ANEW) from error
        if mapped.dtype.kind != "f" or mapped.itemsize not in _FLOAT_BYTES or not mapped.dtype.isnative:
            raise UserError(str(path), f"holds {mapped.dtype}, not floats of 2, 4 or 8 bytes", _ANEW)
        frames: Array = mapped.view(np.ndarray)  # slices of a memmap object cost ten times as much
        return frames


def array_path(folder: Path, split: str) -> Path:
    """File of a split's frames."""
    return folder / f"{split}.npy"


def index_path(folder: Path, split: str) -> Path:
    """File of a split's index."""
    return folder / f"{split}.index.jsonl"


def write_vocabulary(folder: Path, vocabulary: Vocabulary) -> None:
    """Write vocabulary.json."""
    data = {"tokens": vocabulary.tokens, "unit": vocabulary.unit, "frame_s": vocabulary.frame_s}
    write_json(folder / "vocabulary.json", data)


def read_vocabulary(folder: Path) -> Vocabulary:
    """Read vocabulary.json."""
    path = folder / "vocabulary.json"
    if not path.is_file():
        raise UserError(str(folder), "no vocabulary.json", "this folder does not hold log-probs")
    try:
        data = read_json(path)
        vocabulary = Vocabulary(tuple(data["tokens"]), data["unit"], float(data["frame_s"]))
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(str(path), f"not a vocabulary: {error!r}", _VOCABULARY) from error
    if vocabulary.unit not in ("char", "bpe") or not all(isinstance(token, str) for token in vocabulary.tokens):
        raise UserError(str(path), f"unit {vocabulary.unit!r}, or a token that is no text", _VOCABULARY)
    return vocabulary


class FrameSink(Protocol):
    """Takes the utterances of a split one by one."""

    def __call__(self, row: Row, frames: Array, position: int | None = None) -> None:
        """Append one utterance's (frames, vocabulary + 1) array.

        `position`: its place in the index, where batches sorted by length come in another order than the manifest.
        """


@contextmanager
def log_probs_writer(folder: Path, split: str, columns: int, dtype: str = "float16") -> Iterator[FrameSink]:
    """Write a split utterance by utterance without holding it in memory; the index is written last."""
    index: list[tuple[int, dict[str, Any]]] = []
    raw = folder / f".{split}.raw"
    total = 0
    try:
        with raw.open("wb") as file:

            def append(row: Row, frames: Array, position: int | None = None) -> None:
                nonlocal total
                if frames.ndim != 2 or frames.shape[1] != columns:
                    raise ValueError(
                        f"{row.utterance}: log-probs of shape {frames.shape}, expected (frames, {columns})"
                    )
                # float16 holds nothing below -65504: clip, as -inf would poison a beam's sums
                file.write(np.ascontiguousarray(np.maximum(frames, -60000.0), dtype=dtype).tobytes())
                entry = row.to_json() | {"first_frame": total, "frames": int(frames.shape[0])}
                index.append((len(index) if position is None else position, entry))
                total += int(frames.shape[0])

            yield append
        with array_path(folder, split).open("wb") as out:
            header = {
                "descr": np.dtype(dtype).str,
                "fortran_order": False,
                "shape": (total, columns),
            }
            np.lib.format.write_array_header_1_0(out, header)  # type: ignore[no-untyped-call]  # as numpy 1.26 leaves it
            with raw.open("rb") as source:
                while block := source.read(1 << 24):
                    out.write(block)
        index.sort(key=lambda pair: pair[0])
        write_json_lines(index_path(folder, split), (entry for _, entry in index))
    finally:
        raw.unlink(missing_ok=True)


def read_log_probs(folder: Path, split: str) -> LogProbs:
    """Open a split; checks that index, vocabulary and array agree."""
    path = index_path(folder, split)
    if not path.is_file():
        raise UserError(str(folder), f"no log-probs of the split '{split}'", f"the log-probs stage must read {split}")
    vocabulary = read_vocabulary(folder)
    utterances = tuple(_read_index(path))
    split_data = LogProbs(folder, split, vocabulary, utterances)
    shape = split_data.frames().shape
    expected = (sum(u.frames for u in utterances), len(vocabulary.tokens) + 1)
    if shape != expected:
        raise UserError(
            str(array_path(folder, split)),
            f"shape {shape}, index and vocabulary say {expected}",
            _ANEW,
        )
    if wrong := next((u for u in utterances if not 0 <= u.first_frame <= u.first_frame + u.frames <= shape[0]), None):
        problem = f"{wrong.row.utterance}: frames {wrong.first_frame} to {wrong.first_frame + wrong.frames}"
        raise UserError(str(path), f"{problem} of {shape[0]} that there are", _ANEW)
    return split_data


def _read_index(path: Path) -> Iterator[Utterance]:
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            try:
                data = json.loads(line)
                first_frame, frames = operator.index(data["first_frame"]), operator.index(data["frames"])
                yield Utterance(row_from_json(data), first_frame, frames)
            except (ValueError, KeyError, TypeError) as error:
                raise UserError(f"{path}:{number}", f"not an entry of an index: {error!r}", _ANEW) from error

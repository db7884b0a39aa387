"""A manifest row (one utterance) and a hypothesis row (the same with what a system heard), as NeMo JSON lines.

NeMo reads `audio_filepath`, `duration`, `text`, `pred_text`; the other fields are for scoring and breakdowns.
"""

import json
import math
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from hlas.errors import UserError
from hlas.files import write_json_lines


@dataclass(frozen=True, slots=True)
class Row:
    """One utterance of a manifest."""

    audio_filepath: str  # relative to the manifest's folder, or absolute
    duration: float  # seconds
    text: str  # normalised transcript
    raw_text: str = ""  # transcript as the corpus has it
    speaker: str = ""  # '' where unknown, here and below
    gender: str = ""
    age: str = ""
    accents: str = ""
    variant: str = ""
    locale: str = ""
    sentence_id: str = ""
    domain: str = ""  # of the sentence
    up_votes: int | None = None
    down_votes: int | None = None
    snr_db: float | None = None  # estimate of speech over noise
    offset: float | None = None  # seconds into the file where the utterance begins (NeMo's key); None = at its start
    source: str = ""  # corpus and split, e.g. 'common_voice/test'

    @property
    def utterance(self) -> str:
        """Name of the utterance: the audio file's name without folder and suffix."""
        return Path(self.audio_filepath).stem

    def to_json(self) -> dict[str, Any]:
        """The row in file order; empty optional fields are left out."""
        data = {f.name: getattr(self, f.name) for f in fields(self)}
        return {k: v for k, v in data.items() if v not in ("", None) or k in ("audio_filepath", "text", "raw_text")}


@dataclass(frozen=True, slots=True)
class Candidate:
    """One entry of an n-best list."""

    text: str
    logit_score: float  # natural log probability of the acoustic model
    lm_score: float  # logit_score + weighted LM score (natural log), as pyctcdecode defines it


@dataclass(frozen=True, slots=True)
class Word:
    """One word of a hypothesis and when it was said."""

    word: str
    start_s: float
    end_s: float
    confidence: float | None = None  # 0 to 1; how it is computed is the search's matter


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """What a system made of one utterance."""

    row: Row
    pred_text: str  # through the language's normaliser
    raw_pred_text: str  # as the system wrote it
    nbest: tuple[Candidate, ...] = ()  # best first; empty for systems without one
    logit_score: float | None = None
    lm_score: float | None = None
    words: tuple[Word, ...] = ()  # of the search's own text, before the normaliser; empty where times are not known
    doubts: tuple[str, ...] = ()  # what the system itself holds against its text; see hlas.models.transcripts.DOUBTS

    def to_json(self) -> dict[str, Any]:
        """The manifest row followed by the prediction."""
        data = self.row.to_json() | {"pred_text": self.pred_text, "raw_pred_text": self.raw_pred_text}
        if self.nbest:
            data["nbest"] = [{f.name: getattr(c, f.name) for f in fields(c)} for c in self.nbest]
        for name in ("logit_score", "lm_score"):
            if (score := getattr(self, name)) is not None:
                data[name] = score
        if self.words:
            data["words"] = [{f.name: getattr(w, f.name) for f in fields(w)} for w in self.words]
        if self.doubts:
            data["doubts"] = list(self.doubts)
        return data


_ROW_FIELDS = {f.name for f in fields(Row)}
_NUMBERS = frozenset({"duration", "up_votes", "down_votes", "snr_db", "offset"})


def row_from_json(data: dict[str, Any]) -> Row:
    """A Row from a JSON object; unknown keys are ignored.

    Raises KeyError where a required key is missing, ValueError where a value is of another kind. A number for a text
    is taken as it is written: other tools number their speakers.
    """
    known = {k: v for k, v in data.items() if k in _ROW_FIELDS and v is not None}
    for key in ("audio_filepath", "duration", "text"):
        known[key] = data[key]
    for key, value in known.items():
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if key in _NUMBERS:
            if not number or not math.isfinite(value):
                raise ValueError(f"{key} is {value!r:.60}, not a number")
        elif not isinstance(value, str):
            if not number or key in ("audio_filepath", "text"):
                raise ValueError(f"{key} is {value!r:.60}, not a string")
            known[key] = str(value)
    return Row(**known)


def _json_lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    if not path.is_file():
        raise UserError(str(path), "no such manifest", "check the path, or the split: a release may lack it")
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                data = json.loads(line.decode("utf-8"))
            except (ValueError, RecursionError) as error:
                raise UserError(f"{path}:{number}", f"not a JSON object: {error}", "one JSON object a line") from error
            if not isinstance(data, dict):
                raise UserError(f"{path}:{number}", "not a JSON object", "one JSON object a line")
            yield number, data


def read_manifest(path: Path) -> list[Row]:
    """Rows of a NeMo manifest; `audio_filepath` stays as written (see `audio_path`)."""
    rows = []
    for number, data in _json_lines(path):
        try:
            rows.append(row_from_json(data))
        except (KeyError, ValueError) as error:
            raise UserError(
                f"{path}:{number}", _wrong(error), "a row needs audio_filepath, duration (s), text"
            ) from error
    return rows


def _wrong(error: Exception) -> str:
    return f"no key {error}" if isinstance(error, KeyError) else str(error)


def read_hypotheses(path: Path) -> list[Hypothesis]:
    """Rows of a hypotheses file, also one that another tool wrote (`raw_pred_text` then equals `pred_text`)."""
    out = []
    for number, data in _json_lines(path):
        try:
            pred = data["pred_text"]
            if not isinstance(pred, str):
                raise ValueError(f"pred_text is {pred!r:.60}, not a string")
            nbest = tuple(Candidate(c["text"], c["logit_score"], c["lm_score"]) for c in data.get("nbest", ()))
            out.append(
                Hypothesis(
                    row_from_json(data),
                    pred,
                    data.get("raw_pred_text", pred),
                    nbest,
                    data.get("logit_score"),
                    data.get("lm_score"),
                    tuple(
                        Word(w["word"], w["start_s"], w["end_s"], w.get("confidence")) for w in data.get("words", ())
                    ),
                    tuple(str(doubt) for doubt in data.get("doubts", ())),
                )
            )
        except (KeyError, ValueError, TypeError, AttributeError) as error:
            raise UserError(
                f"{path}:{number}", _wrong(error), "a hypothesis is a manifest row with pred_text"
            ) from error
    return out


def write_rows(path: Path, rows: Iterable[Row | Hypothesis]) -> int:
    """Write a manifest or a hypotheses file whole or not at all; returns the number of rows."""
    return write_json_lines(path, (row.to_json() for row in rows))


def audio_path(row: Row, manifest_folder: Path) -> Path:
    """Where the row's audio is: relative paths resolve against the manifest's folder, as in NeMo."""
    return manifest_folder / row.audio_filepath


def rebase(row: Row, old_folder: Path, new_folder: Path) -> Row:
    """The row for a manifest in another folder: a relative audio path still leads to the same file."""
    if Path(row.audio_filepath).is_absolute():
        return row
    return replace(row, audio_filepath=os.path.relpath(old_folder / row.audio_filepath, new_folder))

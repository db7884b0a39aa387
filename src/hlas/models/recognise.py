"""`hlas transcribe`: audio files and folders -> text, subtitles and tables, by a trained model or by Whisper."""

import logging
import re
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from hlas.errors import UserError, UserErrors, did_you_mean
from hlas.models.transcript_files import EACH, FORMATS, TOGETHER, Named, output_names, write_each, write_together
from hlas.models.transcripts import DOUBTS, Transcript
from hlas.models.whisper_options import WhisperOptions
from hlas.parallel import default_workers
from hlas.progress import track
from hlas.stages import KINDS
from hlas.store import finished

if TYPE_CHECKING:
    from hlas.decode.search import SearchOptions
    from hlas.decode.tune import Weights
    from hlas.lm.ngram import LmFiles

LOG = logging.getLogger("hlas")
READABLE = (".wav", ".flac", ".mp3", ".ogg", ".oga", ".opus", ".aif", ".aiff", ".au", ".caf", ".w64")
UNREADABLE = (".m4a", ".aac", ".wma", ".webm", ".mp4")  # not by libsndfile: named as errors, not passed over
WHISPER = re.compile(r"whisper(?:-(?P<model>[^/\\]+))?")


class Recogniser(Protocol):
    """What hears one recording."""

    @property
    def sample_rate_hz(self) -> int:
        """Sample rate that `transcribe` takes."""

    def transcribe(self, audio: Any) -> Transcript:
        """Transcribe (samples,), float32, mono, of any length."""


@dataclass(frozen=True, slots=True)
class AudioFile:
    """One recording to transcribe."""

    path: Path
    below: Path  # the same, relative to the folder that was named


def transcribe_paths(
    paths: Sequence[Path], model: str, lm: Path | None, formats: Sequence[str], out: Path | None, language: str = ""
) -> int:
    """Transcribe files and folders; returns the number of files that failed, each of them named in the log.

    With `out` the texts are written there, else they are printed. UserError where the request itself is wrong.
    """
    files = find_audio(paths)
    _check_request(formats, out, len(files))
    recogniser = load_recogniser(model, lm, language)
    names = output_names([file.below for file in files])
    done: list[Named] = []
    started = time.perf_counter()
    for file, name in track(zip(files, names, strict=True), "transcribe", len(files), "files"):
        transcript = _heard(recogniser, file.path)
        if transcript is None:
            continue
        if doubts := transcript.doubts:
            LOG.warning("%s: %s", file.path, "; ".join(DOUBTS[name] for name in doubts))
        done.append(Named(str(file.path), transcript))
        if out is not None:
            write_each(out, name, formats, transcript)
        elif formats[0] in EACH:
            text = EACH[formats[0]](transcript)
            sys.stdout.write(f"{file.path}\t{text}" if len(files) > 1 else text)
            sys.stdout.flush()
    if out is not None:
        write_together(out, formats, done)
    elif formats[0] in TOGETHER:
        sys.stdout.write(TOGETHER[formats[0]](done))
    audio_s, seconds = sum(d.transcript.duration_s for d in done), time.perf_counter() - started
    LOG.info("%d of %d recordings, %.0f s of audio in %.1f s", len(done), len(files), audio_s, seconds)
    return len(files) - len(done)


def _heard(recogniser: Recogniser, path: Path) -> Transcript | None:
    """The transcript, or None with the reason logged: one bad file does not stop the others."""
    from hlas.manifests.audio.files import load_audio

    try:
        return recogniser.transcribe(load_audio(path, recogniser.sample_rate_hz))
    except UserError as error:
        LOG.error("%s", error)
        return None


def _check_request(formats: Sequence[str], out: Path | None, files: int) -> None:
    unknown = [format_ for format_ in formats if format_ not in FORMATS]
    if unknown or not formats:
        raise UserError("--format", f"no format '{(*unknown, '')[0]}'", did_you_mean((*unknown, "")[0], FORMATS))
    if out is None and len(formats) > 1:
        raise UserError("--format", f"{len(formats)} formats cannot be printed at once", "name a folder with --out")
    if out is None and files > 1 and formats[0] in ("srt", "vtt"):
        raise UserError("--format", f"subtitles of {files} files cannot be printed at once", "name a folder with --out")
    if out is not None and out.exists() and not out.is_dir():
        raise UserError(str(out), "not a folder", "name a folder with --out")


def find_audio(paths: Sequence[Path]) -> list[AudioFile]:
    """The files named, and all audio files in the folders named, each once; UserErrors for paths that are not there."""
    errors: list[UserError] = []
    found: dict[Path, AudioFile] = {}
    for path in paths:
        if path.is_dir():
            inside = sorted(p for p in path.rglob("*") if p.suffix.lower() in READABLE + UNREADABLE and p.is_file())
            if not inside:
                errors.append(UserError(str(path), "no audio files in this folder", f"one of: {' '.join(READABLE)}"))
            files = [AudioFile(p, p.relative_to(path)) for p in inside]
        else:
            if not path.is_file():
                errors.append(UserError(str(path), "no such file or folder", "check the path"))
            files = [AudioFile(path, Path(path.name))]
        for file in files:
            found.setdefault(file.path.resolve(), file)
    if errors:
        raise errors[0] if len(errors) == 1 else UserErrors(errors)
    return list(found.values())


def load_recogniser(model: str, lm: Path | None, language: str) -> Recogniser:
    """A Whisper or a CTC model.

    'whisper', 'whisper-small', a folder of weights or of an adapter, a finetune stage's folder; a .nemo file, a train
    stage's folder.
    """
    path = Path(model)
    match = WHISPER.fullmatch(model)
    if match or _is_whisper(path):
        if lm is not None:
            raise UserError("--lm", "Whisper takes no LM", "leave it out, or name a CTC model")
        return _whisper(match["model"] or "base", None, language) if match else _own_whisper(path, language)
    nemo = path / KINDS["train"].writes["model"] if path.is_dir() else path
    if not nemo.is_file():
        problem = "no such model" if not path.exists() else f"no {nemo.name} and no model.bin in this folder"
        raise UserError(
            model, problem, "a .nemo file, a stage's folder (train, finetune), 'whisper-base', or a Whisper's folder"
        )
    if language:
        raise UserError("--language", "only Whisper is told a language", "leave it out: a CTC model knows one")
    return _ctc(nemo, lm)


def _is_whisper(path: Path) -> bool:
    """Whether a folder is a finetune stage's, or holds a Whisper in any form."""
    from hlas.models.whisper_folders import folder_kind

    if finished(path, "finetune") is not None:
        return True
    try:
        folder_kind(path)
    except UserError:
        return False
    return True


def _own_whisper(path: Path, language: str) -> Recogniser:
    """A Whisper of a folder; a tuned one hears as it was taught to: its language, its windows, no times."""
    record = finished(path, "finetune")
    if record is None:
        return _whisper(path.name, path, language)
    folder = path / KINDS["finetune"].writes["model"]
    options = WhisperOptions(padding_s=record.params["model"]["padding_s"])
    return _whisper(path.name, folder, language or record.summary["language"], options)


# always with times, so that the text does not depend on the format that is asked for
_WITH_TIMES = WhisperOptions(timestamps="always")


def _whisper(model: str, folder: Path | None, language: str, options: WhisperOptions = _WITH_TIMES) -> Recogniser:
    from hlas.models.whisper_asr import Whisper
    from hlas.models.whisper_folders import engine_folder
    from hlas.models.whisper_languages import check_code

    check_code(language, where="--language", change="name --language CODE, or leave it out: Whisper guesses")
    return Whisper(engine_folder(model, folder, options).folder, options, language, default_workers())


def _ctc(nemo: Path, lm: Path | None) -> Recogniser:
    from hlas.models.ctc_long import LongCtc, beam_search, greedy_search
    from hlas.models.nemo_ctc import CtcModel

    chosen = _lm_search(lm) if lm is not None else None  # its errors come before the model is loaded
    ctc = CtcModel.load(nemo)
    return LongCtc(ctc, beam_search(ctc.vocabulary, *chosen) if chosen else greedy_search(ctc.vocabulary))


def _lm_search(path: Path) -> "tuple[LmFiles, SearchOptions, Weights]":
    """The LM's files and how to search with it: as a decode stage did if `path` is one, else with the defaults."""
    from hlas.decode.search import SearchOptions
    from hlas.decode.stage import DEFAULT_WEIGHTS
    from hlas.decode.tune import Weights
    from hlas.lm.ngram import LmFiles, find_lm

    if path.is_file():
        unigrams = path.with_name(KINDS["lm"].writes["unigrams"])
        if not unigrams.is_file():
            raise UserError(str(path), f"no {unigrams.name} beside it", "one word a line, as in the ARPA")
        return LmFiles(path, unigrams), SearchOptions(), DEFAULT_WEIGHTS
    record = finished(path, "decode")
    if record is None:
        LOG.info("alpha and beta are the defaults: name a tuned decode stage's folder as --lm to search as it did")
        return find_lm(path), SearchOptions(), DEFAULT_WEIGHTS
    sources = record.inputs.get("lm", ())
    if not sources or not sources[0].folder:
        raise UserError(str(path), "a decode stage that read no lm stage", "name one that did, or the LM's folder")
    params, summary = record.params, record.summary
    options = SearchOptions(
        summary.get("width", params["width"]),
        params["beam_prune_logp"],
        params["token_min_logp"],
        params["unk_score_offset"],
    )
    folder = path.resolve().parent / sources[0].folder
    return find_lm(folder), options, Weights(summary["alpha"], summary["beta"])

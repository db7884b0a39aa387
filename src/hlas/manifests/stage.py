"""Stage `manifests`: a release becomes NeMo manifests of checked text and 16 kHz clips; every row is accounted for.

Writes train.jsonl, dev.jsonl, test.jsonl (those the release has), clips/, rejects.tsv.
"""

import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from hlas.errors import UserError
from hlas.files import atomic_text
from hlas.manifests.common_voice import Release, open_release, read_durations, read_table
from hlas.manifests.rows import Row, write_rows
from hlas.manifests.screening import OverlapPolicy, Pending, Reject, Screen, evenly
from hlas.manifests.text import REASONS
from hlas.parallel import map_chunks
from hlas.progress import track
from hlas.stage import Stage, Summary
from hlas.stages import MANIFEST_SPLITS

if TYPE_CHECKING:
    from hlas.manifests.audio import Converted

REJECTS = "rejects.tsv"
CLIPS = "clips"
JUDGED = ("test", "dev", "train")  # the most protected first: what they share, the later one loses
CHUNK = 32  # clips a worker takes at a time: about 0.1 s


@dataclass(frozen=True, slots=True)
class Audio:
    """The clips that are written."""

    format: Literal["wav", "flac"] = "wav"  # flac: 43 % smaller, 25 % slower to make
    sample_rate_hz: int = 16000


@dataclass(frozen=True, slots=True)
class Overlap:
    """What becomes of a train row whose speaker or sentence is in dev or test, and of a dev row in test."""

    speakers: OverlapPolicy = "reject"
    sentences: OverlapPolicy = "reject"  # compared after the language's rules


@dataclass(frozen=True, slots=True)
class Params:
    """Parameters of the stage."""

    train_from: Literal["train", "validated"] = "train"  # validated: all that dev and test leave, often twice as much
    limit: int | None = None  # rows a split, spread evenly over it: a quick check
    audio: Audio = field(default_factory=Audio)
    min_duration_s: float = 0.3
    max_duration_s: float = 30.0  # what Whisper hears at once
    min_chars_per_s: float = 0.5  # less: silence, or a clip of another sentence
    max_chars_per_s: float = 40.0  # more than anyone can say: a clip cut short
    max_words: int | None = None
    overlap: Overlap = field(default_factory=Overlap)

    def __post_init__(self) -> None:
        """Refuse what would reject every row."""
        if self.limit is not None and self.limit < 1:
            raise ValueError("limit is less than 1")
        if self.audio.sample_rate_hz < 8000:
            raise ValueError("audio.sample_rate_hz is less than 8000")
        if self.min_duration_s > self.max_duration_s or self.min_chars_per_s > self.max_chars_per_s:
            raise ValueError("a minimum is above its maximum")


class _Split(NamedTuple):
    """One split on its way."""

    in_release: int  # rows of its table
    verdicts: Sequence[Pending | Reject]  # of the chosen rows


class _Kept(NamedTuple):
    """One utterance, and what it shares with another split."""

    row: Row
    overlaps: tuple[str, ...]


def run(params: Params, stage: Stage) -> Summary:
    """Make the manifests of the release that the stage reads."""
    tables = {split: f"{split}.tsv" for split in MANIFEST_SPLITS} | {"train": f"{params.train_from}.tsv"}
    scratch = stage.folder / ".unpacked"
    release = open_release(stage.one("release").path, scratch, tuple(tables.values()))
    splits = _screen(release, tables, params, stage)
    converted = _convert(release, splits, params, stage)
    rejects: dict[str, list[Reject]] = {}
    summary: dict[str, Any] = {}
    for split in (s for s in MANIFEST_SPLITS if s in splits):
        kept, rejects[split] = _finish(splits[split], split, converted, params, stage.folder)
        _refuse_empty(release, split, len(kept), rejects[split])
        write_rows(stage.folder / MANIFEST_SPLITS[split], (k.row for k in kept))
        summary[split] = _account(splits[split], kept, rejects[split])
        stage.log.info(_line(split, summary[split]))
    _write_rejects(stage.folder / REJECTS, rejects)
    shutil.rmtree(scratch, ignore_errors=True)
    counts = {split: s["kept"] for split, s in summary.items()}
    return {"counts": counts | {"rejected": sum(map(len, rejects.values()))}, "splits": summary}


def _screen(release: Release, tables: Mapping[str, str], params: Params, stage: Stage) -> dict[str, _Split]:
    """Judge the rows of every split that the release has by their text."""
    language = stage.need_language()
    screen = Screen(language, params.overlap.speakers, params.overlap.sentences, params.max_words)
    out: dict[str, _Split] = {}
    for split in JUDGED:
        table = release.table(tables[split])
        rows = list(read_table(table)) if table else []
        if not rows:
            stage.log.info("%s: the release has none", split)
            continue
        out[split] = _Split(len(rows), screen.judge(evenly(rows, params.limit)))
        screen.protect(split, rows if split != "train" else ())
        rejected = [v for v in out[split].verdicts if isinstance(v, Reject)]
        _refuse_empty(release, split, len(out[split].verdicts) - len(rejected), rejected)
    if not out:
        raise UserError(release.label, "every table is empty", "give a release with clips")
    return out


def _convert(release: Release, splits: Mapping[str, _Split], params: Params, stage: Stage) -> "dict[str, Converted]":
    """Convert the clips of all splits; result by file."""
    from hlas.manifests.audio import Converter, Job, audio_name, made_duration

    target = stage.folder / CLIPS
    target.mkdir(exist_ok=True)
    for left in target.glob(".*.part"):  # of a killed run
        left.unlink()
    files = [v.file for split in splits.values() for v in split.verdicts if isinstance(v, Pending)]
    audio = params.audio
    if release.archive:
        release.fetch([f for f in files if made_duration(target / audio_name(f, audio.format)) is None])
    stated = read_durations(release, set(files))
    converter = Converter(release.clips, target, audio.format, audio.sample_rate_hz)
    jobs = [Job(file, stated.get(file)) for file in files]
    results = map_chunks(converter, jobs, workers=stage.workers, chunk_size=CHUNK)
    return dict(zip(files, track(results, "audio", len(jobs), "clips"), strict=True))


def _finish(
    split: _Split, name: str, converted: "Mapping[str, Converted]", params: Params, folder: Path
) -> tuple[list[_Kept], list[Reject]]:
    """Utterances and rejects of a split, in the order of its table; clips of rejects are removed."""
    from hlas.manifests.audio import audio_name

    kept: list[_Kept] = []
    rejects: list[Reject] = []
    for verdict in split.verdicts:
        if isinstance(verdict, Reject):
            rejects.append(verdict)
            continue
        clip, audio = verdict.clip, converted[verdict.file]
        path = f"{CLIPS}/{audio_name(verdict.file, params.audio.format)}"
        reason, detail = audio.reason, audio.detail
        if not reason:
            reason, detail = _implausible(audio.duration_s, len(verdict.text), params)
        if reason:
            (folder / path).unlink(missing_ok=True)
            rejects.append(Reject(clip.path, reason, detail))
            continue
        row = Row(
            audio_filepath=path,
            duration=audio.duration_s,
            text=verdict.text,
            raw_text=clip.sentence,
            speaker=clip.speaker,
            gender=clip.gender,
            age=clip.age,
            accents=clip.accents,
            locale=clip.locale,
            sentence_id=clip.sentence_id,
            source=f"common_voice/{name}",
        )
        kept.append(_Kept(row, verdict.overlaps))
    return kept, rejects


def _implausible(duration_s: float, chars: int, params: Params) -> tuple[str, str]:
    """Why a clip's length does not fit, '' if it does, and its length."""
    rate = chars / duration_s
    for reason, wrong, detail in (
        ("too_short", duration_s < params.min_duration_s, f"{duration_s:.2f} s"),
        ("too_long", duration_s > params.max_duration_s, f"{duration_s:.2f} s"),
        ("too_slow", rate < params.min_chars_per_s, f"{rate:.2f} characters/s"),
        ("too_fast", rate > params.max_chars_per_s, f"{rate:.2f} characters/s"),
    ):
        if wrong:
            return reason, detail
    return "", ""


def _account(split: _Split, kept: Sequence[_Kept], rejects: Sequence[Reject]) -> dict[str, Any]:
    """A split's part of the summary; kept and rejected are all the rows that were read."""
    if len(kept) + len(rejects) != len(split.verdicts):
        raise AssertionError(f"kept {len(kept)} + rejected {len(rejects)} != read {len(split.verdicts)}")
    return {
        "in_release": split.in_release,
        "read": len(split.verdicts),
        "kept": len(kept),
        "hours": round(sum(k.row.duration for k in kept) / 3600, 4),
        "speakers": len({k.row.speaker for k in kept if k.row.speaker}),
        "rejected": dict(Counter(r.reason for r in rejects).most_common()),
        "overlaps_kept": dict(Counter(o for k in kept for o in k.overlaps).most_common()),
    }


def _line(split: str, account: Mapping[str, Any]) -> str:
    chosen = f" (chosen from {account['in_release']})" if account["read"] < account["in_release"] else ""
    size = f"{account['hours']:.2f} h, {account['speakers']} speakers"
    line = f"{split}: kept {account['kept']} of {account['read']}{chosen} ({size})"
    for title, counts in (("", account["rejected"]), ("kept though ", account["overlaps_kept"])):
        if counts:
            line += ("; " if title else ": ") + title + ", ".join(f"{reason} {n}" for reason, n in counts.items())
    return line


def _refuse_empty(release: Release, split: str, kept: int, rejects: Sequence[Reject]) -> None:
    """A split of rejects is a mistake in the recipe or the release, not a result."""
    if kept:
        return
    ((reason, count),) = Counter(r.reason for r in rejects).most_common(1)
    example = next(r for r in rejects if r.reason == reason)
    fix = "mend the release, or the limits and the overlap policy of the manifests stage"
    if reason in REASONS:
        fix = "mend the alphabet or the rules of the language's YAML, or give the release of this language"
    raise UserError(
        f"{release.label}: {split}",
        f"no row is left of {len(rejects)}; the commonest reason is {reason} ({count}), "
        f"e.g. {example.clip}: {example.detail}",
        fix,
    )


def _write_rejects(path: Path, rejects: Mapping[str, Sequence[Reject]]) -> None:
    with atomic_text(path) as file:
        file.write("split\tclip\treason\tdetail\n")
        for split, items in rejects.items():
            for item in items:
                file.write("\t".join((split, *(" ".join(cell.split()) for cell in item))) + "\n")

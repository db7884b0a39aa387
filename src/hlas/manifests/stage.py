"""Stage `manifests`: a corpus becomes NeMo manifests of checked text and sound clips; every row is accounted for.

Tables, splits, text, audio, limits, manifests: columns all the way (polars), so that 10^6 rows take seconds where the
audio is not touched. Writes train.jsonl, dev.jsonl, test.jsonl (those there are), clips/, rejects.tsv and audit.json.
"""

import errno
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from hlas.errors import UserError, did_you_mean
from hlas.files import atomic_text, write_json
from hlas.manifests.audio.options import AudioOptions
from hlas.manifests.audit import Options as AuditOptions
from hlas.manifests.audit import audit
from hlas.manifests.corpus import READERS, Corpus, open_corpus
from hlas.manifests.splits import OwnSplits, official_splits, own_splits
from hlas.manifests.text import REASONS
from hlas.manifests.transcripts import Tags, TranscriptCheck, check_transcripts
from hlas.stage import Stage, Summary
from hlas.stages import MANIFEST_SPLITS

if TYPE_CHECKING:
    import polars as pl

    from hlas.manifests.clip_audio import StatedDurations
    from hlas.manifests.finish import Finished

REJECTS = "rejects.tsv"
AUDIT = "audit.json"
_DISK_IS_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
Policy = Literal["reject", "keep"]


@dataclass(frozen=True, slots=True)
class Overlap:
    """What becomes of a train row whose speaker or sentence is in dev or test, and of a dev row in test."""

    speakers: Policy = "reject"
    sentences: Policy = "reject"  # compared after the language's rules


@dataclass(frozen=True, slots=True)
class Params:
    """Parameters of the stage. Votes and repeats choose rows of train, and of all splits that are made here."""

    reader: str = "common_voice"  # one of corpus.READERS
    splits: Literal["official"] | OwnSplits = "official"
    tables: Mapping[str, tuple[str, ...]] = field(
        default_factory=dict
    )  # that make an official split: {test: [test-other]}
    expand: bool = False  # train goes on with all of `validated` that dev and test leave, often twice as much
    limit: int | None = None  # rows a split, spread evenly over it: a quick check
    segment: Literal["keep", "drop", "only"] = "keep"  # rows of a part such as the single-word segment, in all splits
    min_up_votes: int | None = None
    max_down_votes: int | None = None
    max_per_sentence: int | None = None  # recordings, the first ones of the table
    tags: Tags = field(default_factory=Tags)
    max_words: int | None = None
    overlap: Overlap = field(default_factory=Overlap)
    audio: AudioOptions = field(default_factory=AudioOptions)
    spot_check: int = 200  # clips that are opened where durations are trusted
    min_duration_s: float = 0.3
    max_duration_s: float = 30.0  # what Whisper hears at once
    min_chars_per_s: float = 0.5  # less: silence, or a clip of another sentence
    max_chars_per_s: float = 40.0  # more than anyone can say: a clip cut short
    audit: AuditOptions = field(default_factory=AuditOptions)

    def __post_init__(self) -> None:
        """Refuse what would reject every row, and what contradicts itself."""
        if self.reader not in READERS:
            raise ValueError(f"no reader '{self.reader}'; {did_you_mean(self.reader, READERS)}")
        for name in ("limit", "max_per_sentence", "max_words"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} is less than 1")
        if wrong := [split for split in self.tables if split not in MANIFEST_SPLITS or not self.tables[split]]:
            raise ValueError(f"tables.{wrong[0]} is no list of tables of {', '.join(MANIFEST_SPLITS)}")
        if self.spot_check < 0:
            raise ValueError("spot_check is less than 0")
        if self.min_duration_s > self.max_duration_s or self.min_chars_per_s > self.max_chars_per_s:
            raise ValueError("a minimum is above its maximum")
        if isinstance(self.splits, OwnSplits):
            if self.tables:
                raise ValueError("tables is for official splits; name the tables of your own in splits.tables")
            if self.expand:
                raise ValueError("expand is for official splits; name the tables of your own in splits.tables")
            if self.splits.by == "sentence" and self.overlap.speakers == "reject":
                raise ValueError("splits by sentence share speakers: overlap.speakers must be keep")


def run(params: Params, stage: Stage) -> Summary:
    """Make the manifests of the corpus that the stage reads."""
    with _full_disk_is_a_user_error(stage.folder):
        return _run(params, stage)


def _run(params: Params, stage: Stage) -> Summary:
    from hlas.manifests.clip_audio import remove_unused

    scratch = stage.folder / ".unpacked"
    corpus = open_corpus(params.reader, stage.one("release").path, scratch)
    if isinstance(params.splits, OwnSplits):
        splits = own_splits(corpus, params.splits)
    else:
        splits = official_splits(corpus, params.tables, expand=params.expand)
    sizes = {split: rows.height for split, rows in splits.items()}
    done, stated = _hear(corpus, _screen(corpus.label, splits, params, stage), params, stage)
    summary = {split: {"in_release": sizes[split], **finished.account} for split, finished in done.items()}
    _write(done, summary, params, stage, stated.warning)
    remove_unused(stage.folder, [finished.kept["audio_filepath"] for finished in done.values()])
    shutil.rmtree(scratch, ignore_errors=True)
    counts = {split: account["kept"] for split, account in summary.items()}
    return {
        "counts": counts | {"rejected": sum(finished.rejects.height for finished in done.values())},
        "splits": summary,
        "stated_durations": {"compared": stated.compared, "differ": stated.differ},
    }


def _screen(label: str, splits: "dict[str, pl.DataFrame]", params: Params, stage: Stage) -> "dict[str, pl.DataFrame]":
    """The chosen rows of every split with their verdicts by table and text; takes the splits out of their dict."""
    import polars as pl

    from hlas.manifests.readers.tables import look_up
    from hlas.manifests.screening import RowRules, Screen, evenly

    rules = RowRules(
        reject_speakers=params.overlap.speakers == "reject",
        reject_sentences=params.overlap.sentences == "reject",
        segment=params.segment,
        max_words=params.max_words,
        min_up_votes=params.min_up_votes,
        max_down_votes=params.max_down_votes,
        max_per_sentence=params.max_per_sentence,
    )
    screen = Screen(rules)
    check = TranscriptCheck(stage.need_language(), params.tags)
    out: dict[str, pl.DataFrame] = {}
    for split in list(splits):
        rows = splits.pop(split)
        held_out = split != "train"  # all of its rows count, also those that the limit leaves out
        chosen = evenly(rows, params.limit)
        texts = check_transcripts((rows if held_out else chosen)["sentence"], check, stage.workers)
        choosy = not held_out or isinstance(params.splits, OwnSplits)
        out[split] = screen.judge(look_up(chosen, texts, "sentence"), choosy=choosy)
        if held_out:
            screen.protect(split, look_up(rows, texts, "sentence"))
        rejected = out[split].filter(pl.col("reason") != "")
        _refuse_empty(f"{label}: {split}", out[split].height - rejected.height, rejected)
    return out


def _hear(
    corpus: Corpus, judged: "dict[str, pl.DataFrame]", params: Params, stage: Stage
) -> "tuple[dict[str, Finished], StatedDurations]":
    """The audio of all splits, and what is left of each; takes the splits out of their dict."""
    import polars as pl

    from hlas.manifests.clip_audio import HEARD_BY, compare_durations, hear_clips
    from hlas.manifests.finish import finish_split

    accepted = pl.concat(rows.filter(reason="").select(HEARD_BY) for rows in judged.values())
    heard = hear_clips(corpus, accepted, params.audio, stage)
    stated = compare_durations(accepted, heard, corpus, params.audio, params.spot_check)
    done: dict[str, Finished] = {}
    start = 0
    for split in list(judged):
        rows = judged.pop(split)
        own = heard.slice(start, int((rows["reason"] == "").sum()))
        start += own.height
        done[split] = finish_split(rows, own, f"{params.reader}/{split}", params)
        _refuse_empty(f"{corpus.label}: {split}", done[split].kept.height, done[split].rejects)
    return {split: done[split] for split in MANIFEST_SPLITS if split in done}, stated


def _write(
    done: "Mapping[str, Finished]", summary: Mapping[str, Mapping[str, Any]], params: Params, stage: Stage, warning: str
) -> None:
    """Manifests, rejects and audit, each shown in the log."""
    from hlas.manifests.rows_table import write_manifest

    for split, finished in done.items():
        write_manifest(stage.folder / MANIFEST_SPLITS[split], finished.kept)
        stage.log.info(_line(split, summary[split]))
    with atomic_text(stage.folder / REJECTS) as file:
        file.write("split\tclip\treason\tdetail\n")
        for split, finished in done.items():
            for cells in finished.rejects.iter_rows():
                file.write("\t".join((split, *(" ".join(cell.split()) for cell in cells))) + "\n")
    kept = {split: finished.kept for split, finished in done.items()}
    found = audit(kept, stage.folder, params.audit, stage.workers)
    write_json(stage.folder / AUDIT, found.to_json())
    for line in found.lines:
        stage.log.info("audit: %s", line)
    for text in filter(None, (warning, *found.warnings)):
        stage.log.warning("%s", text)


@contextmanager
def _full_disk_is_a_user_error(folder: Path) -> Iterator[None]:
    """What was written whole stays for the next run; nothing else keeps its name."""
    try:
        yield
    except OSError as error:
        if error.errno not in _DISK_IS_FULL:
            raise
        raise UserError(
            str(folder), f"cannot be written: {error.strerror}", "make room and run it again: it goes on where it was"
        ) from error


def _line(split: str, account: Mapping[str, Any]) -> str:
    chosen = f" (chosen from {account['in_release']})" if account["read"] < account["in_release"] else ""
    size = f"{account['hours']:.2f} h, {account['speakers']} speakers"
    line = f"{split}: kept {account['kept']} of {account['read']}{chosen} ({size})"
    for title, counts in (("", account["rejected"]), ("kept though ", account["overlaps_kept"])):
        if counts:
            line += ("; " if title else ": ") + title + ", ".join(f"{reason} {n}" for reason, n in counts.items())
    return line


def _refuse_empty(where: str, kept: int, rejects: "pl.DataFrame") -> None:
    """A split of rejects is a mistake in the recipe or the release, not a result."""
    if kept:
        return
    ((reason, count),) = Counter(rejects["reason"]).most_common(1)
    clip, detail = rejects.filter(reason=reason).select("clip", "detail").row(0)
    fix = "mend the release, or the limits, the rules and the overlap policy of the manifests stage"
    if reason in REASONS:
        fix = "mend the alphabet or the rules of the language's YAML, or give the release of this language"
    raise UserError(
        where,
        f"no row is left of {rejects.height}; the commonest reason is {reason} ({count}), e.g. {clip}: {detail}",
        fix,
    )

"""Before training: rows of train and dev that the model cannot be trained on are set aside, each with its reason.

The rows that are kept go into `train.jsonl` and `dev.jsonl` of the stage's folder, which the loaders read; the others
into `rejects.tsv` (split, audio, reason, detail).
"""

import logging
import stat
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from hlas.errors import UserError
from hlas.files import atomic_text
from hlas.manifests.rows import Row, audio_path, read_manifest, rebase, write_rows
from hlas.models.augmentor import length_factors
from hlas.models.nemo_ctc import batches, evaluating
from hlas.models.training.job import SECTIONS, Fit
from hlas.models.training.memory import in_parts

REJECTS = "rejects.tsv"
SHORTEST_S = 0.1  # NeMo's features of a few windows have no variance to normalise by
PROBES_S = (1.0, 2.0, 4.0, 8.0)  # silences from which a model's frames per second are measured
MARGIN = 2  # frames by which the measured line may be wrong
FORWARD_S = 60.0  # audio, padding counted, in one batch of silences

FIXES: Mapping[str, str] = {  # section: of the split, in `model`
    "empty_text": "check the manifests stage, or the rules of the language's YAML",
    "no_label": "train the tokenizer on this manifest, or mend the language's alphabet",
    "too_short": "lower {section}.min_duration, or check the durations in the manifest",
    "too_long": "raise {section}.max_duration, or cut the clips",
    "too_many_tokens": "cut the clips: Whisper writes at most 224 tokens a window",
    "too_few_frames": "take a tokenizer with larger pieces, or a model with a smaller stride",
}


@dataclass(frozen=True)
class Screened:
    """A split's rows that are left, as in `manifest`, and why the others are not."""

    rows: tuple[Row, ...]  # paths relative to the manifest's folder
    manifest: Path
    rejects: Mapping[str, int]  # reason -> rows


@dataclass(frozen=True)
class Verdict:
    """Why a row is set aside; '' where it is kept."""

    reason: str = ""
    detail: str = ""


def screen(model: Any, job: Fit, log: logging.Logger) -> dict[str, Screened]:
    """The rows of 'train' and 'dev' that the model can be trained on.

    Raises UserError where a split has none, where clips of it are missing, or where dev has no words.
    """
    out = {}
    spell = speller(model)
    lines = []
    for split, path, config in (
        ("train", job.train, job.model["train_ds"]),
        ("dev", job.dev, job.model.get("validation_ds", {})),
    ):
        rows = read_manifest(path)
        if not rows:
            raise UserError(f"train.{split}", "the manifest is empty", "see rejects.tsv of the manifests stage")
        spelled = [spell(row.text) for row in rows]
        verdicts = judge_audio(rows, config, float(getattr(model.encoder, "longest_s", "inf")))
        if split == "train":  # a dev row that cannot be aligned can still be heard, and counts
            verdicts = judge_text(rows, spelled, verdicts, model, length_factors(config)[0])
        else:
            _warn_of_unknown(spelled, log)
        kept = [row for row, verdict in zip(rows, verdicts, strict=True) if not verdict.reason]
        rejects = Counter(verdict.reason for verdict in verdicts if verdict.reason)
        lines += [(split, row, verdict) for row, verdict in zip(rows, verdicts, strict=True) if verdict.reason]
        tell("train", split, rows, verdicts, rejects, log)
        if not config.get("is_tarred"):
            check_clips(f"train.{split}", kept, path.parent)
        rebased = tuple(rebase(row, path.parent, job.folder) for row in kept)
        write_rows(job.folder / f"{split}.jsonl", rebased)
        out[split] = Screened(rebased, job.folder / f"{split}.jsonl", dict(rejects))
    write_rejects(job.folder / REJECTS, lines)
    return out


def check_clips(where: str, rows: Iterable[Row], folder: Path) -> None:
    """Raise UserError where audio files are missing or empty, before an epoch ends in their midst."""
    paths = list(dict.fromkeys(audio_path(row, folder) for row in rows))
    if missing := [path for path in paths if not _is_there(path)]:
        raise UserError(
            where,
            f"{len(missing)} of {len(paths)} audio files are missing or empty, e.g. {missing[0].resolve()}",
            f"bring them back, or make the manifest anew (its relative paths start from {folder.resolve()})",
        )


def _is_there(path: Path) -> bool:
    try:
        status = path.stat()
    except OSError:
        return False
    return stat.S_ISREG(status.st_mode) and status.st_size > 0


@dataclass(frozen=True, slots=True)
class Spelled:
    """A transcript in the model's labels."""

    tokens: int
    frames_needed: int  # tokens, and a blank between two neighbours that are the same (Graves et al. 2006)
    unknown: str  # characters without a label


def speller(model: Any) -> Callable[[str], Spelled]:
    """How this model's tokenizer or labels spell a text."""
    if hasattr(model, "tokenizer"):
        pieces, unk = model.tokenizer.text_to_ids, model.tokenizer.unk_id
        characters = set("".join(map(str, model.decoder.vocabulary))) | {" "}

        def spell_pieces(text: str) -> Spelled:
            ids = pieces(text)
            unknown = "".join(sorted(set(text) - characters)) or "<unk>"
            return _spelled(ids, unknown if unk in ids else "")

        return spell_pieces
    labels = set(map(str, model.decoder.vocabulary))

    def spell_characters(text: str) -> Spelled:
        return _spelled([c for c in text if c in labels], "".join(sorted(set(text) - labels)))

    return spell_characters


def _spelled(tokens: Sequence[Any], unknown: str) -> Spelled:
    repeats = sum(a == b for a, b in pairwise(tokens))
    return Spelled(len(tokens), len(tokens) + repeats, unknown)


def judge_audio(rows: Iterable[Row], config: Mapping[str, Any], longest_s: float) -> list[Verdict]:
    """Which rows the model cannot hear, or `train_ds` or `validation_ds` leaves out, as NeMo would without a word."""
    shortest_s = max(SHORTEST_S, config.get("min_duration") or 0.0)
    longest_s = min(longest_s, config.get("max_duration") or longest_s)
    shrink, stretch = length_factors(config)
    by = "" if shrink == stretch else f", where train_ds.augmentor takes its {shrink:.3g}- to {stretch:.3g}-fold length"
    verdicts = []
    for row in rows:
        if row.duration * shrink < shortest_s:
            verdicts.append(Verdict("too_short", f"{row.duration:.2f} s, less than {shortest_s:g} s{by}"))
        elif row.duration * stretch > longest_s:
            verdicts.append(Verdict("too_long", f"{row.duration:.2f} s, more than {longest_s:g} s{by}"))
        else:
            verdicts.append(Verdict())
    return verdicts


def judge_text(
    rows: Sequence[Row], spelled: Sequence[Spelled], verdicts: Sequence[Verdict], model: Any, shrink: float = 1.0
) -> list[Verdict]:
    """The verdicts with those on transcripts: none, without a label, or longer than the model's frames.

    `shrink`: by how much the augmentor can shorten a clip.
    """
    out = list(verdicts)
    open_rows = []
    for i, (text, verdict) in enumerate(zip(spelled, verdicts, strict=True)):
        if verdict.reason:
            continue
        if text.unknown:
            out[i] = Verdict("no_label", text.unknown)
        elif not text.tokens:
            out[i] = Verdict("empty_text")
        else:
            open_rows.append(i)
    needed = [spelled[i].frames_needed for i in open_rows]
    there = enough_frames(model, [rows[i].duration * shrink for i in open_rows], needed)
    for i, frames in zip(open_rows, there, strict=True):
        if frames is not None:
            out[i] = Verdict("too_few_frames", f"{frames} frames for {spelled[i].frames_needed} tokens and blanks")
    return out


def enough_frames(model: Any, durations_s: Sequence[float], needed: Sequence[int]) -> list[int | None]:
    """None where a clip has the frames that are needed, else how many it has.

    A line through a few silences tells nearly all clips apart; only of those near to it is a silence of their own
    length measured.
    """
    rate_hz = int(model.cfg.sample_rate)
    probes = measured_frames(model, [round(s * rate_hz) for s in PROBES_S])
    per_s = (probes[-1] - probes[-2]) / (PROBES_S[-1] - PROBES_S[-2])
    out: list[int | None] = [None] * len(needed)
    near: dict[int, int] = {}  # row -> samples
    for i, (duration_s, least) in enumerate(zip(durations_s, needed, strict=True)):
        estimate = probes[-1] + (duration_s - PROBES_S[-1]) * per_s
        if abs(estimate - least) <= MARGIN:
            near[i] = round(duration_s * rate_hz)
        elif estimate < least:
            out[i] = max(0, int(estimate))
    lengths = sorted(set(near.values()))
    frames = dict(zip(lengths, measured_frames(model, lengths), strict=True))
    for i, samples in near.items():
        if frames[samples] < needed[i]:
            out[i] = frames[samples]
    return out


def measured_frames(model: Any, samples: Sequence[int]) -> list[int]:
    """Frames that the model gives for silences of so many samples; the model is as it was afterwards."""
    import torch

    rate_hz = int(model.cfg.sample_rate)

    def frames_of(group: Sequence[int]) -> list[int]:
        lengths = torch.tensor([samples[i] for i in group], device=model.device)
        silence = torch.zeros(len(group), int(lengths.max()), device=model.device)
        _, frames, _ = model(input_signal=silence, input_signal_length=lengths)
        return list(frames.tolist())

    def named(i: int) -> str:
        return f"a clip of {samples[i] / rate_hz:.1f} s"

    out = [0] * len(samples)
    # not inference_mode: NeMo's encoders keep masks as buffers, and DDP refuses those of an inference
    with evaluating(model), torch.no_grad():
        for group in batches([n / rate_hz for n in samples], FORWARD_S):
            try:
                frames = in_parts(group, frames_of, "train: model", named)
            except RuntimeError as error:  # parts that were built one by one do not fit together
                fix = "check the widths that its parts hand on: feat_in, feat_out, d_model"
                raise UserError("train: model", f"does not run: {' '.join(str(error).split())}", fix) from error
            for i, count in zip(group, frames, strict=True):
                out[i] = count
    return out


def write_rejects(path: Path, lines: Iterable[tuple[str, Row, Verdict]]) -> None:
    """The table of what was set aside."""
    with atomic_text(path) as file:
        file.write("split\taudio\treason\tdetail\n")
        for split, row, verdict in lines:
            detail = " ".join(verdict.detail.split()) or repr(verdict.detail)
            file.write(f"{split}\t{row.audio_filepath}\t{verdict.reason}\t{detail}\n")


def _warn_of_unknown(spelled: Sequence[Spelled], log: logging.Logger) -> None:
    """No model with these labels gets such words right."""
    if rows := [text.unknown for text in spelled if text.unknown]:
        characters = "".join(sorted(set("".join(rows))))
        log.warning(
            "dev: %d of %d rows have characters without a label (%s): they count as errors",
            len(rows),
            len(spelled),
            characters[:20],
        )


def tell(
    kind: str,
    split: str,
    rows: Sequence[Row],
    verdicts: Sequence[Verdict],
    rejects: Mapping[str, int],
    log: logging.Logger,
) -> None:
    """Log kept and rejected; UserError where nothing is left for that kind of stage, or dev has no words."""
    kept = len(rows) - sum(rejects.values())
    reasons = "".join(f", {reason} {count}" for reason, count in sorted(rejects.items()))
    log.info("%s: kept %d of %d%s", split, kept, len(rows), reasons)
    if kept:
        if split == "dev" and not any(
            row.text.strip() for row, verdict in zip(rows, verdicts, strict=True) if not verdict.reason
        ):
            problem = f"the texts of all {kept} rows are empty: there is no WER to choose weights by"
            raise UserError(f"{kind}.{split}", problem, FIXES["empty_text"])
        return
    reason, count = max(rejects.items(), key=lambda item: item[1])
    row, verdict = next((r, v) for r, v in zip(rows, verdicts, strict=True) if v.reason == reason)
    raise UserError(
        f"{kind}.{split}",
        f"no row is left of {len(rows)}; the commonest reason is {reason} ({count}), "
        f"e.g. {row.audio_filepath}: {verdict.detail or repr(row.text)}",
        FIXES[reason].format(section=SECTIONS[split]),
    )

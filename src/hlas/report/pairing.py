"""Which utterances compare: every system's hypotheses of a split in one order, or a refusal that says what differs."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from hlas.errors import UserError
from hlas.manifests.rows import Hypothesis, Row
from hlas.report.systems import System

_DEPTHS = (1, 2, 3)  # last parts of an audio path that name an utterance: as few as tell all apart
_SAMPLE = 1000  # rows that are looked at to find the system that says most about the clips


@dataclass(frozen=True, slots=True)
class Allowed:
    """What a comparison may pass over; whatever it passes over is said in the report."""

    different_clips: bool = False  # then only the clips that all systems have are scored
    different_text: bool = False  # then each system is scored against its own references


NOTHING = Allowed()


@dataclass(frozen=True, slots=True)
class Paired:
    """The utterances of one split that all systems have."""

    hypotheses: tuple[tuple[Hypothesis, ...], ...]  # of each system, in one order
    rows: tuple[Row, ...]  # what is known of the utterances, from the system that says most
    audio_folder: Path  # that the rows' relative audio paths start from
    same_text: bool  # whether all systems have the same references
    warnings: tuple[str, ...]  # what was passed over


def pair(systems: Sequence[System], split: str, allowed: Allowed) -> Paired:
    """The utterances of the split in the order of the first system.

    Raises UserError where the systems have other utterances, or other references for them, and that is not allowed:
    such numbers do not compare.
    """
    keyed = _keyed(systems, split)
    warnings = []
    order = list(keyed[0])
    if any(rows.keys() != keyed[0].keys() for rows in keyed[1:]):
        if not allowed.different_clips:
            raise _other_clips(systems, split, keyed)
        order = [key for key in order if all(key in rows for rows in keyed)]
        if not order:
            raise UserError(f"split '{split}'", "no clip is in all systems", "compare systems of one test set")
        left_out = ", ".join(f"{len(rows) - len(order)} of {s.name}" for s, rows in zip(systems, keyed, strict=True))
        warnings.append(
            f"{split}: the systems heard different clips. Only the {len(order)} that all of them heard are scored; "
            f"left out: {left_out}."
        )
    hypotheses = tuple(tuple(rows[key] for key in order) for rows in keyed)
    other = [
        (system.name, sum(h.row.text != first.row.text for h, first in zip(own, hypotheses[0], strict=True)))
        for system, own in zip(systems[1:], hypotheses[1:], strict=True)
    ]
    if different := {name: count for name, count in other if count}:
        if not allowed.different_text:
            raise _other_text(systems, split, order, hypotheses)
        listed = ", ".join(f"{count} of {len(order)} for {name}" for name, count in different.items())
        warnings.append(
            f"{split}: the references differ from those of {systems[0].name} ({listed}). Each system is scored against "
            f"its own, so the difference between two of them is also one of texts."
        )
    base = max(range(len(systems)), key=lambda i: _known(hypotheses[i]))
    rows = tuple(h.row for h in hypotheses[base])
    return Paired(hypotheses, rows, systems[base].folder, not different, tuple(warnings))


def _known(hypotheses: Sequence[Hypothesis]) -> int:
    """How much the rows say: fields that are not empty, over a sample."""
    names = [f.name for f in fields(Row)]
    return sum(getattr(h.row, name) not in ("", None, 0.0) for h in hypotheses[:_SAMPLE] for name in names)


def _keyed(systems: Sequence[System], split: str) -> list[dict[str, Hypothesis]]:
    """Each system's hypotheses by name of utterance: the end of the audio path that tells all of them apart."""
    for depth in _DEPTHS:
        keyed = [{_key(h.row, depth): h for h in system.splits[split]} for system in systems]
        if all(len(rows) == len(system.splits[split]) for rows, system in zip(keyed, systems, strict=True)):
            return keyed
    for system in systems:
        counts = Counter(
            str((system.folder / h.row.audio_filepath).resolve()) + _offset(h.row) for h in system.splits[split]
        )
        if twice := [key for key, count in counts.items() if count > 1]:
            raise UserError(
                f"{system.name}: split '{split}'",
                f"{len(twice)} utterances occur twice: {_some([Path(key).name for key in twice])}",
                "one row an utterance",
            )
    return [
        {str((system.folder / h.row.audio_filepath).resolve()) + _offset(h.row): h for h in system.splits[split]}
        for system in systems
    ]


def _key(row: Row, depth: int) -> str:
    # by hand, as a Path for each of a million rows takes seconds
    *folders, file = row.audio_filepath.rsplit("/", depth)[-depth:]
    stem, dot, _ = file.rpartition(".")
    return "/".join((*folders, stem if stem and dot else file)) + _offset(row)


def _offset(row: Row) -> str:
    return "" if row.offset is None else f"@{row.offset:.3f}"


def _other_clips(systems: Sequence[System], split: str, keyed: Sequence[dict[str, Hypothesis]]) -> UserError:
    first = keyed[0]
    system, rows = next((s, r) for s, r in zip(systems[1:], keyed[1:], strict=True) if r.keys() != first.keys())
    only = {
        systems[0].name: [key for key in first if key not in rows],
        system.name: [key for key in rows if key not in first],
    }
    return UserError(
        f"split '{split}'",
        f"'{systems[0].name}' has {len(first)} utterances and '{system.name}' {len(rows)}; "
        + "; ".join(f"{len(keys)} only in '{name}': {_some(keys)}" for name, keys in only.items() if keys),
        "decode the same manifest with both; hlas report --allow-different-clips scores the clips that all have",
    )


def _other_text(
    systems: Sequence[System], split: str, order: Sequence[str], hypotheses: Sequence[Sequence[Hypothesis]]
) -> UserError:
    for system, own in zip(systems[1:], hypotheses[1:], strict=True):
        texts = [(h.row.text, first.row.text) for h, first in zip(own, hypotheses[0], strict=True)]
        if different := [i for i, (a, b) in enumerate(texts) if a != b]:
            theirs, ours = texts[different[0]]
            return UserError(
                f"split '{split}'",
                f"'{systems[0].name}' and '{system.name}' have other references for {len(different)} of {len(order)} "
                f"utterances: {order[different[0]]}: '{ours}' / '{theirs}'",
                "make both with one normaliser; hlas report --language YAML normalises all of them anew, "
                "--allow-different-text scores each against its own",
            )
    raise AssertionError("the references are the same")


def _some(keys: Sequence[str]) -> str:
    return ", ".join(keys[:3]) + (", …" if len(keys) > 3 else "")

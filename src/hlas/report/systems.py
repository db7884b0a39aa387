"""What the report reads: each system's hypotheses, timing, tuning and OOV counts, and how it came about."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from hlas.errors import UserError
from hlas.files import read_json
from hlas.manifests.rows import Hypothesis, read_hypotheses
from hlas.stage import Input
from hlas.stages import MANIFEST_SPLITS
from hlas.store import Record, ancestors, read_record

Role = Literal["greedy", "beam", "beam_lm", "other"]


@dataclass(frozen=True, slots=True)
class Timing:
    """How long a system took for one split."""

    audio_s: float
    seconds: float

    @property
    def rtfx(self) -> float | None:
        """Seconds of audio for each second of work (inverse real-time factor); None if too short to measure."""
        return self.audio_s / self.seconds if self.seconds > 0 else None


@dataclass(frozen=True, slots=True)
class TuningPoint:
    """One pair of beam-search weights, scored on dev."""

    alpha: float  # weight of the LM
    beta: float  # bonus a word
    wer: float
    cer: float


@dataclass(frozen=True, slots=True)
class System:
    """One decode or transcribe stage."""

    name: str
    role: Role
    folder: Path
    record: Record
    chain: tuple[tuple[Path, Record], ...]  # this stage and all it was made from, nearest first
    splits: Mapping[str, tuple[Hypothesis, ...]]
    timing: Mapping[str, Timing]
    tuned_on: str  # split, '' where nothing was tuned
    tuning: tuple[TuningPoint, ...]
    chosen: TuningPoint | None
    oov_share: Mapping[str, float]  # split -> share of the reference words that the LM does not know

    @property
    def acoustic(self) -> str:
        """Name of the log-probs that it decodes; '' where it hears the audio itself."""
        return next((source.stage or source.path for source in self.record.inputs.get("logprobs", ())), "")

    @property
    def pretrained(self) -> bool:
        """Whether it rests on a model that was trained elsewhere, so that its training data is not known here."""
        return any(_from_outside(record) for _, record in self.chain)


def _from_outside(record: Record) -> bool:
    outside = [s for key in ("init", "acoustic", "logprobs") for s in record.inputs.get(key, ()) if not s.folder]
    return record.kind == "transcribe" or bool(outside) or bool(record.summary.get("pretrained"))


def load_systems(inputs: Iterable[Input]) -> list[System]:
    """Read the systems in the recipe's order; raises UserError for a folder without hypotheses or a name used twice."""
    systems: dict[str, System] = {}
    for item in inputs:
        system = load_system(item)
        if system.name in systems:
            raise UserError("report.systems", f"two systems are named '{system.name}'", "list each stage once")
        systems[system.name] = system
    return list(systems.values())


def load_system(item: Input) -> System:
    """Read one stage folder."""
    folder = item.path
    record = read_record(folder)
    splits = {path.stem: tuple(read_hypotheses(path)) for path in sorted(folder.glob("*.jsonl"))}
    splits = {split: rows for split, rows in splits.items() if rows}
    if not splits:
        raise UserError(
            f"report.systems: {item.label}", "no hypotheses (<split>.jsonl with rows)", "decode a split first"
        )
    tuning = _optional_json(folder / "tuning.json")
    return System(
        name=item.stage or folder.name,
        role=_role(record, splits),
        folder=folder,
        record=record,
        chain=tuple(ancestors(folder)),
        splits={split: splits[split] for split in sorted(splits, key=_split_order)},
        timing={k: Timing(v["audio_s"], v["seconds"]) for k, v in _optional_json(folder / "timing.json").items()},
        tuned_on=tuning.get("split", ""),
        tuning=tuple(_point(entry) for entry in tuning.get("table", ())),
        chosen=_point(tuning["chosen"]) if tuning.get("chosen") else None,
        oov_share={
            k: v["oov_words"] / v["words"] for k, v in _optional_json(folder / "oov.json").items() if v["words"]
        },
    )


def _point(entry: Mapping[str, float]) -> TuningPoint:
    return TuningPoint(entry["alpha"], entry["beta"], entry["wer"], entry["cer"])


def _optional_json(path: Path) -> dict[str, Any]:
    return dict(read_json(path)) if path.is_file() else {}


def _role(record: Record, splits: Mapping[str, Sequence[Hypothesis]]) -> Role:
    if record.kind != "decode":
        return "other"
    if record.inputs.get("lm"):
        return "beam_lm"
    return "beam" if any(h.nbest for rows in splits.values() for h in rows) else "greedy"


def _split_order(split: str) -> tuple[int, str]:
    """Test first, then dev, then train, then any other."""
    order = list(reversed(MANIFEST_SPLITS))
    return (order.index(split) if split in order else len(order), split)


def splits_of(systems: Iterable[System]) -> list[str]:
    """Every split that any system has, the most telling first: test, dev, train, others."""
    return sorted({split for system in systems for split in system.splits}, key=_split_order)


def aligned(systems: Sequence[System], split: str) -> list[tuple[Hypothesis, ...]]:
    """Each system's hypotheses of the split in one order of utterances, that of the first system.

    Raises UserError where the systems have other utterances, or other references for them: such numbers do not compare.
    """
    keyed = _keyed(systems, split)
    first, order = systems[0], list(keyed[0])
    for system, rows in zip(systems[1:], keyed[1:], strict=True):
        where = f"report: split '{split}'"
        only_first = [key for key in order if key not in rows]
        only_this = [key for key in rows if key not in keyed[0]]
        if only_first or only_this:
            raise UserError(
                where,
                f"'{first.name}' has {len(order)} utterances and '{system.name}' {len(rows)}; "
                + "; ".join(
                    f"{len(keys)} only in '{name}': {_some(keys)}"
                    for name, keys in ((first.name, only_first), (system.name, only_this))
                    if keys
                ),
                "decode the same manifest with both",
            )
        if other := [key for key in order if rows[key].row.text != keyed[0][key].row.text]:
            texts = f"'{keyed[0][other[0]].row.text}' / '{rows[other[0]].row.text}'"
            raise UserError(
                where,
                f"'{first.name}' and '{system.name}' have other references for {len(other)} of {len(order)} "
                f"utterances: {other[0]}: {texts}",
                "make both from manifests of one normaliser version",
            )
    return [tuple(rows[key] for key in order) for rows in keyed]


def _some(keys: Sequence[str]) -> str:
    return ", ".join(keys[:3]) + (", …" if len(keys) > 3 else "")


def _keyed(systems: Sequence[System], split: str) -> list[dict[str, Hypothesis]]:
    """Hypotheses by name of utterance, or by audio path where the names alone repeat."""
    by_name = [{h.row.utterance: h for h in system.splits[split]} for system in systems]
    if all(len(keyed) == len(system.splits[split]) for keyed, system in zip(by_name, systems, strict=True)):
        return by_name
    out = []
    for system in systems:
        paths = [(system.folder / h.row.audio_filepath).resolve() for h in system.splits[split]]
        keyed = {str(path): h for path, h in zip(paths, system.splits[split], strict=True)}
        if len(keyed) != len(system.splits[split]):
            twice = len(system.splits[split]) - len(keyed)
            raise UserError(
                str(system.folder / f"{split}.jsonl"), f"{twice} utterances occur twice", "one row an utterance"
            )
        out.append(keyed)
    return out

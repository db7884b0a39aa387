"""What the report reads: each system's hypotheses, timing, tuning and OOV counts, and how it came about."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from hlas.errors import UserError
from hlas.files import read_json
from hlas.manifests.rows import Hypothesis, read_hypotheses
from hlas.stage import Input
from hlas.stages import LM_FILES, MANIFEST_SPLITS
from hlas.store import Record, ancestors, read_record

Role = Literal["greedy", "beam", "beam_lm", "rescored", "other"]


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
    redecoded: bool = True  # by a search with these weights; False: estimated between those of a narrower one
    width: int | None = None  # of the beam, where the grid has several


@dataclass(frozen=True, slots=True)
class System:
    """What is scored: a decode, rescore or transcribe stage, or the hypotheses of another tool."""

    name: str
    role: Role
    folder: Path  # that the rows' relative audio paths start from
    record: Record | None  # None where no stage made it
    chain: tuple[tuple[Path, Record], ...]  # its stage and all that it was made from, nearest first
    splits: Mapping[str, tuple[Hypothesis, ...]]
    source: str = ""  # where it came from, for a comparison across runs; '' within one
    timing: Mapping[str, Timing] = field(default_factory=dict)
    tuned_on: str = ""  # split, '' where nothing was tuned
    tuning: tuple[TuningPoint, ...] = ()
    chosen: TuningPoint | None = None
    oov_share: Mapping[str, float] = field(default_factory=dict)  # split -> share of reference words unknown to the LM

    @property
    def acoustic(self) -> str:
        """Folder of the log-probs that it decodes or rescores; '' where it hears the audio itself."""
        sources = [s for _, record in self.chain for s in record.inputs.get("logprobs", ())]
        return next((source.folder or source.path for source in sources), "")

    @property
    def summary(self) -> Mapping[str, Any]:
        """What its stage counted; empty for another tool's."""
        return self.record.summary if self.record else {}

    @property
    def tuned_splits(self) -> frozenset[str]:
        """Splits on which weights were chosen, by its own stage or by one that it was made from."""
        chosen = [str(record.summary.get("weights_from", "")) for _, record in self.chain]
        found = {text.removeprefix("tuned on ") for text in chosen if text.startswith("tuned on ")}
        return frozenset(found | ({self.tuned_on} if self.tuned_on else set()))

    @property
    def told(self) -> dict[str, Any]:
        """What a Whisper was told; empty for other systems.

        `told_language`: its code ('auto': Whisper guessed); `padding_s`: silence after a clip, None: windows of 30 s.
        """
        names = {"language": "told_language", "padding_s": "padding_s"}
        heard_itself = self.record is not None and self.record.kind == "transcribe"
        return {names[key]: self.summary[key] for key in names if key in self.summary} if heard_itself else {}

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
        system = load_stage(item.path, item.stage or item.path.name)
        if system.name in systems:
            raise UserError("report.systems", f"two systems are named '{system.name}'", "list each stage once")
        systems[system.name] = system
    return list(systems.values())


def load_stage(folder: Path, name: str, source: str = "") -> System:
    """Read one decode, rescore or transcribe stage."""
    record = read_record(folder)
    splits = in_split_order({path.stem: read_hypotheses(path) for path in sorted(folder.glob("*.jsonl"))})
    if not splits:
        raise UserError(f"systems: {name}", "no hypotheses (<split>.jsonl with rows)", "decode a split first")
    tuning = _optional_json(folder / "tuning.json")
    return System(
        name=name,
        role=_role(record, splits),
        folder=folder,
        record=record,
        chain=tuple(ancestors(folder)),
        splits=splits,
        source=source,
        timing={k: Timing(v["audio_s"], v["seconds"]) for k, v in _optional_json(folder / "timing.json").items()},
        tuned_on=tuning.get("split", ""),
        tuning=tuple(_point(entry) for entry in tuning.get("table", ())),
        chosen=_point(tuning["chosen"]) if tuning.get("chosen") else None,
        oov_share={
            k: v["oov_words"] / v["words"] for k, v in _optional_json(folder / "oov.json").items() if v["words"]
        },
    )


def _point(entry: Mapping[str, Any]) -> TuningPoint:
    return TuningPoint(
        entry["alpha"],
        entry["beta"],
        entry["wer"],
        entry["cer"],
        redecoded=bool(entry.get("redecoded", True)),
        width=entry.get("width"),
    )


def _optional_json(path: Path) -> dict[str, Any]:
    return dict(read_json(path)) if path.is_file() else {}


def _role(record: Record, splits: Mapping[str, Sequence[Hypothesis]]) -> Role:
    if record.kind == "rescore":
        return "rescored"
    if record.kind != "decode":
        return "other"
    if record.inputs.get("lm"):
        return "beam_lm"
    return "beam" if any(h.nbest for rows in splits.values() for h in rows) else "greedy"


def _split_order(split: str) -> tuple[int, str]:
    """Test first, then dev, then train, then any other."""
    order = list(reversed(MANIFEST_SPLITS))
    return (order.index(split) if split in order else len(order), split)


def in_split_order(splits: Mapping[str, Sequence[Hypothesis]]) -> dict[str, tuple[Hypothesis, ...]]:
    """The splits that hold rows, the most telling first: test, dev, train, others."""
    return {split: tuple(splits[split]) for split in sorted(splits, key=_split_order) if splits[split]}


def splits_of(systems: Iterable[System]) -> list[str]:
    """Every split that any system has, in the same order."""
    return sorted({split for system in systems for split in system.splits}, key=_split_order)


def lm_words(systems: Iterable[System]) -> tuple[str, frozenset[str]]:
    """Name and words of the first language model behind the systems whose word list is still there; ('', empty)."""
    for system in systems:
        for folder, record in system.chain:
            path = folder / LM_FILES["unigrams"]
            if record.kind in ("lm", "lm_mix") and path.is_file():
                return record.name, frozenset(path.read_text(encoding="utf-8").split("\n")) - {""}
    return "", frozenset()

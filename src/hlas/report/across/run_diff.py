"""What changed between two runs: in the recipe, in the numbers, and in which utterances."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from hlas.errors import UserError
from hlas.report.across.compare import Loaded, Request, load
from hlas.report.evaluate import SplitResult, corrected, evaluate
from hlas.report.facts import flat
from hlas.report.headline import hours_text, p_text, percent, points
from hlas.report.significance import Comparison
from hlas.report.systems import System
from hlas.store import Record

LISTED = 10  # utterances of the largest changes of each pair of systems


@dataclass(frozen=True, slots=True)
class Change:
    """One value that differs; None where a side does not have it."""

    where: str  # 'recipe: stages.train.trainer.max_epochs', 'stage beam_lm: params.width'
    old: str | None
    new: str | None


@dataclass(frozen=True, slots=True)
class Flip:
    """One utterance that the two systems heard differently."""

    utterance: str
    reference: str
    old: str
    new: str
    old_errors: int
    new_errors: int


@dataclass(frozen=True, slots=True)
class SystemDiff:
    """One system before and after, on one split."""

    name: str
    split: str
    rates: Mapping[str, tuple[float, float]]  # 'wer', 'cer', …: old and new
    comparison: Comparison
    broken: int  # utterances that were right and are wrong
    mended: int  # utterances that were wrong and are right
    better: int  # utterances with fewer errors, the mended among them
    worse: int
    largest: tuple[Flip, ...]  # the largest changes in errors, worse and better


@dataclass(frozen=True, slots=True)
class RunDiff:
    """Everything that differs between two runs."""

    old: str
    new: str
    changes: tuple[Change, ...]
    systems: tuple[SystemDiff, ...]
    only_old: tuple[str, ...]  # systems without a partner
    only_new: tuple[str, ...]
    warnings: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """For `hlas diff --format json`."""
        data = asdict(replace(self, systems=()))
        data["systems"] = [
            asdict(replace(system, largest=()))
            | {"comparison": system.comparison.to_json(), "largest": [asdict(flip) for flip in system.largest]}
            for system in self.systems
        ]
        return data


def diff_runs(old: str, new: str, request: Request) -> RunDiff:
    """Compare two runs; of `request` everything but `runs` and `baseline` counts."""
    before, after = (load(replace(request, runs=(run,))) for run in (old, new))
    pairs = _pairs(before.systems, after.systems)
    results = [(name, result) for a, b in pairs for name, result in _evaluated(a, b, request)]
    # what is called real holds for all of the comparisons that are shown
    own = corrected([result for _, result in results], len(results))
    systems = [_system_diff(name, result) for (name, _), result in zip(results, own, strict=True)]
    warnings = dict.fromkeys([*before.warnings, *after.warnings, *(w for result in own for w in result.warnings)])
    return RunDiff(
        old=old,
        new=new,
        changes=(*_recipe_changes(before, after), *_stage_changes(pairs)),
        systems=tuple(systems),
        only_old=tuple(s.name for s in before.systems if s.name not in {a.name for a, _ in pairs}),
        only_new=tuple(s.name for s in after.systems if s.name not in {b.name for _, b in pairs}),
        warnings=tuple(warnings),
    )


def _pairs(before: Sequence[System], after: Sequence[System]) -> list[tuple[System, System]]:
    """Systems of one name; one system on each side is a pair whatever the names."""
    if len(before) == len(after) == 1:
        return [(before[0], after[0])]
    named = {system.name: system for system in after}
    pairs = [(system, named[system.name]) for system in before if system.name in named]
    if not pairs:
        names = [", ".join(system.name for system in side) for side in (before, after)]
        raise UserError(
            "hlas diff",
            f"no system is in both runs: {names[0]} / {names[1]}",
            "name a stage of each: runs/RECIPE/STAGE",
        )
    return pairs


def _recipe_changes(before: Loaded, after: Loaded) -> Iterator[Change]:
    """Keys of the resolved recipes."""
    if before.homes and after.homes:
        old, new = (_flat_recipe(loaded.homes[0]) for loaded in (before, after))
        yield from _changes("recipe: ", old, new)


def _flat_recipe(home: Path) -> dict[str, str]:
    path = home / "recipe.resolved.yaml"
    return dict(flat(yaml.safe_load(path.read_text(encoding="utf-8"))))


def _stage_changes(pairs: Sequence[tuple[System, System]]) -> Iterator[Change]:
    """Parameters with their defaults, language rules, code and versions of the stages behind the systems."""
    seen: set[str] = set()
    for before, after in pairs:
        old, new = ({record.name: record for _, record in system.chain} for system in (before, after))
        if before.record and after.record and before.record.name != after.record.name:  # two stages named on purpose
            where = f"stage {before.record.name} → {after.record.name}: "
            yield from _changes(where, _facts(before.record), _facts(after.record))
        for name in [name for name in old if name in new and name not in seen]:
            seen.add(name)
            yield from _changes(f"stage {name}: ", _facts(old[name]), _facts(new[name]))


def _facts(record: Record) -> dict[str, str]:
    """What made a stage, but for the fingerprints of the stages before it, which are listed themselves."""
    made = {key: record.ingredients.get(key, {}) for key in ("params", "language", "version")}
    environment = {key: record.environment.get(key, "") for key in ("commit", "python", "versions")}
    return dict(flat(made | environment))


def _changes(where: str, old: Mapping[str, str], new: Mapping[str, str]) -> Iterator[Change]:
    for key in dict.fromkeys([*old, *new]):
        if old.get(key) != new.get(key):
            yield Change(where + key, old.get(key), new.get(key))


def _evaluated(before: System, after: System, request: Request) -> Iterator[tuple[str, SplitResult]]:
    a, b = replace(before, name="old"), replace(after, name="new")
    shared = [split for split in before.splits if split in after.splits]
    if not shared:
        problem = f"no split in common: {', '.join(before.splits)} / {', '.join(after.splits)}"
        raise UserError(f"hlas diff: {before.name}", problem, "decode one test set with both")
    a, b = (replace(s, splits={split: s.splits[split] for split in shared}) for s in (a, b))
    for result in evaluate([a, b], "old", request.resamples, request.seed, request.allowed, request.workers):
        yield before.name if before.name == after.name else f"{before.name} → {after.name}", result


def _system_diff(name: str, result: SplitResult) -> SystemDiff:
    old, new = result.systems
    before, after = old.score.utterance_errors.tolist(), new.score.utterance_errors.tolist()
    changed = [i for i, (x, y) in enumerate(zip(before, after, strict=True)) if x != y]
    largest = sorted(changed, key=lambda i: (-abs(after[i] - before[i]), i))[:LISTED]
    rates = {key: (getattr(old.score, key), getattr(new.score, key)) for key in ("wer", "cer", "sentence_error_rate")}
    return SystemDiff(
        name=name,
        split=result.split,
        rates=rates,
        comparison=result.comparisons[0],
        broken=sum(before[i] == 0 for i in changed),
        mended=sum(after[i] == 0 for i in changed),
        better=sum(after[i] < before[i] for i in changed),
        worse=sum(after[i] > before[i] for i in changed),
        largest=tuple(
            Flip(
                result.rows[i].utterance,
                new.hypotheses[i].row.text,
                old.hypotheses[i].pred_text,
                new.hypotheses[i].pred_text,
                before[i],
                after[i],
            )
            for i in largest
        ),
    )


def diff_lines(diff: RunDiff) -> Iterator[str]:
    """The difference for a terminal."""
    yield from (f"note: {warning}" for warning in diff.warnings)
    yield f"{len(diff.changes)} values differ between {diff.old} and {diff.new}" + (":" if diff.changes else "")
    for change in diff.changes:
        old, new = ("(none)" if value is None else value for value in (change.old, change.new))
        yield f"  {change.where}: {old} → {new}"
    for names, run in ((diff.only_old, diff.old), (diff.only_new, diff.new)):
        if names:
            yield f"only in {run}: {', '.join(names)}"
    for system in diff.systems:
        yield ""
        yield from _system_lines(system)


def _system_lines(system: SystemDiff) -> Iterator[str]:
    comparison = system.comparison
    low, high = comparison.wer_delta_ci95
    rates = "   ".join(
        f"{key.upper()} {percent(old, 2)} → {percent(new, 2)}" for key, (old, new) in _short(system.rates)
    )
    yield f"{system.name}, {system.split}: {rates}"
    sure = "real" if comparison.significant else "may be chance"
    yield f"  WER {points(comparison.wer_delta, 2)} points ({points(low, 2)} … {points(high, 2)}), {sure}: " + p_text(
        comparison.p_holm
    )
    if not comparison.significant and comparison.hours_needed is not None:
        there, needed = hours_text(comparison.hours), hours_text(comparison.hours_needed)
        yield f"  {there} of speech; a difference of this size takes {needed}"
    yield (
        f"  utterances: {system.better} better ({system.mended} now right), "
        f"{system.worse} worse ({system.broken} no longer right)"
    )
    for flip in system.largest:
        yield f"  {flip.utterance}: {flip.old_errors} → {flip.new_errors} errors"
        yield f"    reference: {flip.reference}"
        yield f"    old:       {flip.old}"
        yield f"    new:       {flip.new}"


def _short(rates: Mapping[str, tuple[float, float]]) -> list[tuple[str, tuple[float, float]]]:
    return [("ser" if key == "sentence_error_rate" else key, value) for key, value in rates.items()]

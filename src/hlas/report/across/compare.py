"""Any runs in one report: systems of several recipes and of other tools, over the same clips, by the same rules."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from hlas.errors import UserError, did_you_mean
from hlas.fingerprint import changed
from hlas.manifests.rows import Hypothesis
from hlas.manifests.text import Language, load_language
from hlas.paths import project_root
from hlas.report.across.sources import UNKNOWN_SPLIT, Found, find_systems
from hlas.report.content import Report
from hlas.report.evaluate import evaluate
from hlas.report.pairing import NOTHING, Allowed
from hlas.report.provenance import command_line, fingerprints, resolved_recipe, trace
from hlas.report.systems import System, in_split_order
from hlas.yamls import read_yaml

_NAMED = 5  # systems in a sentence
_LIKELY_SPLIT = "test"  # of hypotheses whose file does not say it, where no other system tells


@dataclass(frozen=True, slots=True)
class Request:
    """What is to be compared, and how."""

    runs: tuple[str, ...]  # each '[NAME=]PATH'
    baseline: str = ""  # name of a system; '' = the first
    split: str = ""  # only this one; '' = every split
    language: Path | None = None  # all texts go through its rules anew; None = as the recipes have them
    title: str = ""
    resamples: int = 1000
    seed: int = 0
    allowed: Allowed = NOTHING
    workers: int = 1


@dataclass(frozen=True, slots=True)
class Loaded:
    """The systems of a request, each under a name of its own."""

    systems: tuple[System, ...]
    language: Language | None
    homes: tuple[Path, ...]  # folders of the recipes that they are from
    warnings: tuple[str, ...]  # what was passed over


def compare(request: Request) -> Report:
    """Load, check and score; raises UserError where the runs do not compare and that is not allowed."""
    from hlas.environment import environment

    loaded = load(request)
    names = [system.name for system in loaded.systems]
    baseline = request.baseline or names[0]
    if baseline not in names:
        raise UserError("--baseline", f"no system '{baseline}'", did_you_mean(baseline, names))
    results = evaluate(loaded.systems, baseline, request.resamples, request.seed, request.allowed, request.workers)
    provenance = trace(loaded.systems, {})
    return Report(
        title=request.title or f"{len(names)} systems compared",
        recipe="",
        language=loaded.language,
        results=tuple(results),
        provenance=provenance,
        seed=request.seed,
        command=command_line(),
        made=environment(),
        recipes=tuple(recipe for home in loaded.homes for recipe in resolved_recipe(home)),
        fingerprints=fingerprints(provenance),
        warnings=loaded.warnings,
    )


def load(request: Request) -> Loaded:
    """The systems of every run, by one normaliser, with distinct names and known splits."""
    found = find_systems(request.runs)
    homes = tuple(dict.fromkeys(item.home for item in found if item.home))
    warnings: list[str] = []
    if request.language:
        language: Language | None = load_language(request.language)
        found = [replace(item, system=_normalised(item.system, language)) for item in found]
    else:
        warnings += _check_normalisers(found, request.allowed)
        language = _language(homes, found, warnings)
        found = [
            replace(item, system=_normalised(item.system, language)) if item.foreign and language else item
            for item in found
        ]
        if not language and (foreign := [item.system.name for item in found if item.foreign]):
            more = f" and {len(foreign) - _NAMED} more" if len(foreign) > _NAMED else ""
            warnings.append(
                f"No language is known: the texts of {', '.join(foreign[:_NAMED])}{more} are scored as they are."
            )
    systems = _with_known_splits(_named_apart(found))
    if request.split:
        systems = [_only(system, request.split) for system in systems]
    return Loaded(tuple(systems), language, homes, tuple(warnings))


def _normalised(system: System, language: Language | None) -> System:
    """The system with every text made anew from its raw form."""
    assert language is not None
    rule = cache(language.normalise)

    def one(h: Hypothesis) -> Hypothesis:
        return replace(
            h,
            row=replace(h.row, text=rule(h.row.raw_text or h.row.text)),
            pred_text=rule(h.raw_pred_text or h.pred_text),
            nbest=tuple(replace(c, text=rule(c.text)) for c in h.nbest),
        )

    return replace(system, splits={split: tuple(map(one, rows)) for split, rows in system.splits.items()})


def _rules(item: Found) -> Mapping[str, Any] | None:
    """The language rules that a stage's texts went through."""
    return item.system.record.ingredients.get("language") if item.system.record else None


def _check_normalisers(found: Sequence[Found], allowed: Allowed) -> list[str]:
    """Refuse systems whose texts went through other rules; what is allowed instead is said."""
    ruled = [(item, rules) for item in found if (rules := _rules(item)) is not None]
    for item, rules in ruled[1:]:
        first, expected = ruled[0]
        if rules == expected:
            continue
        keys = ", ".join(changed(expected, rules)[:4])
        problem = f"the texts of {first.long_name} and {item.long_name} went through other rules ({keys})"
        if not allowed.different_text:
            raise UserError(
                "comparison",
                problem,
                "--language YAML normalises all of them anew, --allow-different-text compares them as they are",
            )
        return [f"{problem[0].upper()}{problem[1:]}: a difference between them is also one of rules."]
    return []


def _language(homes: Sequence[Path], found: Sequence[Found], warnings: list[str]) -> Language | None:
    """The language of the first recipe that names one; a warning where its rules changed since."""
    for home in homes:
        written = read_yaml(home / "recipe.resolved.yaml").data.get("language")
        path = project_root() / str(written)
        if not written or not path.is_file():
            continue
        now = {key: value for key, value in read_yaml(path).data.items() if key != "golden"}
        then = next((rules for item in found if item.home == home and (rules := _rules(item)) is not None), now)
        if (keys := changed(then, now)) and any(item.foreign for item in found):
            warnings.append(
                f"The rules of {written} changed since {home.name} ran ({', '.join(keys[:4])}); texts of other tools "
                "went through the new ones."
            )
        return load_language(path)
    return None


def _named_apart(found: Sequence[Found]) -> list[System]:
    """Short names where they tell all systems apart, else names with their runs."""
    short = Counter(item.system.name for item in found)
    names = [item.system.name if short[item.system.name] == 1 else item.long_name for item in found]
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise UserError("comparison", f"two systems are named '{twice[0]}'", "name them yourself: NAME=PATH")
    return [replace(item.system, name=name) for item, name in zip(found, names, strict=True)]


def _with_known_splits(systems: Sequence[System]) -> list[System]:
    """A file whose name does not say its split gets that of which it has the most clips."""
    known: dict[str, set[str]] = {}
    for system in systems:
        for split, rows in system.splits.items():
            if split != UNKNOWN_SPLIT:
                known.setdefault(split, set()).update(h.row.utterance for h in rows)
    return [_with_split(system, known) for system in systems]


def _with_split(system: System, known: Mapping[str, set[str]]) -> System:
    if UNKNOWN_SPLIT not in system.splits:
        return system
    clips = {h.row.utterance for h in system.splits[UNKNOWN_SPLIT]}
    shared = {split: len(clips & names) for split, names in known.items() if clips & names}
    split = max(shared, key=lambda name: shared[name], default=_LIKELY_SPLIT)
    return replace(system, splits=in_split_order({split: system.splits[UNKNOWN_SPLIT]}))


def _only(system: System, split: str) -> System:
    if split not in system.splits:
        raise UserError("--split", f"'{system.name}' has no '{split}'", did_you_mean(split, system.splits))
    return replace(system, splits={split: system.splits[split]})

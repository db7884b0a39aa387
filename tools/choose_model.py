#!/usr/bin/env python3
"""Makes the README's "choose a model" table out of finished runs: nothing in it is typed by hand.

    .venv/bin/python tools/choose_model.py add RUNS/hsb_whisper_ctc …   # measured numbers -> docs/results/models.json
    .venv/bin/python tools/choose_model.py write                       # docs/results/models.json -> README.md
    .venv/bin/python tools/choose_model.py show RUNS/hsb_whisper_ctc   # all its systems, as a table for docs/results

`add` keeps every system of the run's report, under the acoustic model that it rests on; what the file had of that
recipe goes. `write` shows each model once: the system that is best on dev without an LM, and the best with one. Word
error rates and their intervals are those of metrics.json; the intervals of character error rates are made here, from
the hypotheses beside it and by the same resamples. A test says that README.md is what `write` writes.
"""

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from hlas.errors import UserError
from hlas.files import atomic_text, read_json, write_json
from hlas.manifests.rows import read_hypotheses
from hlas.paths import project_root
from hlas.report.metrics import score
from hlas.report.significance import bootstrap_wer, choose_units, interval95
from hlas.store import Record, ancestors, is_done, read_record
from hlas.yamls import read_yaml

RESULTS = project_root() / "docs" / "results" / "models.json"
README = project_root() / "README.md"
BEGIN, END = "<!-- measured models: tools/choose_model.py write -->", "<!-- end of measured models -->"
TRAINED = ("train", "finetune")
LMS = ("lm", "lm_mix")


@dataclass(frozen=True, slots=True)
class Scores:
    """One system on one split: rates of the whole split and their 95 % intervals, as fractions."""

    wer: float
    wer_ci95: tuple[float, float]
    cer: float
    cer_ci95: tuple[float, float]


@dataclass(frozen=True, slots=True)
class System:
    """One decode, rescore or transcribe stage."""

    name: str  # of the stage in the recipe
    kind: str
    lm: str  # name of its language model's stage in the recipe; '' without one
    dev: Scores | None  # None where the split was not scored
    test: Scores | None

    @property
    def dev_wer(self) -> float:
        """What a choice may look at; a system without dev hypotheses comes last."""
        return self.dev.wer if self.dev else float("inf")


@dataclass(frozen=True, slots=True)
class Made:
    """One stage that the model took."""

    stage: str  # its name in the recipe
    kind: str
    seconds: float
    speech_h: float | None  # that it was trained on
    hardware: str
    commit: str
    date: str


@dataclass(frozen=True, slots=True)
class Model:
    """An acoustic model in a recipe, and all systems there that rest on it."""

    recipe: str
    made: str  # what tells models apart across recipes: the store's folder; the name of a Whisper as it is
    name: str
    parameters: int | None  # of its last training; None: nothing was trained
    trainable: int | None
    stages: tuple[Made, ...]  # its trainings, the first one first; of a Whisper as it is, its transcribe stage
    systems: tuple[System, ...]  # in the report's order

    @property
    def label(self) -> str:
        """The model, and its stage in the recipe."""
        return f"{self.name} ({self.stages[-1].stage})"

    @property
    def best_on_dev(self) -> float:
        """WER of its best system."""
        return min(system.dev_wer for system in self.systems)

    def best(self, with_lm: bool) -> System | None:
        """The best on dev of the systems with, or without, an LM that have been tested."""
        choice = [s for s in self.systems if bool(s.lm) == with_lm and s.test]
        return min(choice, key=lambda s: s.dev_wer, default=None)


def measured(run: Path) -> list[Model]:
    """The acoustic models of a recipe's finished run; says on stderr which systems rest on none of its own."""
    path = run / "metrics.json"
    if not path.is_file():
        raise UserError(str(path), "no such file", "name RUNS/RECIPE, and run the whole recipe with its report")
    metrics, report, names = read_json(path), path.resolve().parent, _stage_names(run)
    models: dict[str, Model] = {}
    for source in read_record(report).inputs["systems"]:
        chain = list(ancestors(report.parent / source.folder))
        model = _model(metrics["recipe"], chain, names)
        if model is None:
            print(f"{run}: {source.stage} is left out: no stage of the recipe is its model", file=sys.stderr)
            continue
        model = models.setdefault(model.made, model)
        lm = next((_own(names, folder) for folder, record in chain if record.kind in LMS), "")
        dev, test = (_scores(report, metrics, source.stage, split) for split in ("dev", "test"))
        system = System(source.stage, chain[0][1].kind, lm, dev, test)
        models[model.made] = replace(model, systems=(*model.systems, system))
    return list(models.values())


def _stage_names(run: Path) -> dict[str, str]:
    """Folder in the store -> the recipe's name of the stage that it is.

    A record has the name in the recipe that made it first. Links of stages that the recipe no longer has do not count.
    """
    stages = read_yaml(run / "recipe.resolved.yaml").data["stages"]
    links = [link for link in sorted(run.iterdir()) if link.name.partition("@")[0] in stages and is_done(link)]
    return {link.resolve().name: link.name for link in links}


def _own(names: Mapping[str, str], folder: Path) -> str:
    if folder.name not in names:
        raise UserError(str(folder), "no stage of the recipe leads to it any more", "run the recipe again")
    return names[folder.name]


def _model(recipe: str, chain: Sequence[tuple[Path, Record]], names: Mapping[str, str]) -> Model | None:
    """The model at the end of a system's chain, which has the nearest stage first; without systems as yet."""
    nearest = [[found for found in chain if found[1].kind in kinds] for kinds in (TRAINED, ("transcribe",))]
    if not any(nearest):
        return None
    folder, record = (nearest[0] or nearest[1])[0]
    # the edges from one training to another are `init`
    trained = [found for found in ancestors(folder) if found[1].kind in TRAINED]
    summary = record.summary
    return Model(
        recipe=recipe,
        made=folder.name if trained else str(summary["model"]),
        name=str(record.params.get("name") or summary.get("model") or _own(names, folder)),
        parameters=summary.get("parameters"),
        trainable=summary.get("trainable"),
        stages=tuple(_made(*found, names) for found in reversed(trained or [(folder, record)])),
        systems=(),
    )


def _made(folder: Path, record: Record, names: Mapping[str, str]) -> Made:
    machine, hours = record.environment["machine"], record.summary.get("train_hours")
    return Made(
        stage=_own(names, folder),
        kind=record.kind,
        seconds=round(max(record.seconds, _epochs_s(folder))),
        speech_h=None if hours is None else round(hours, 2),
        hardware=machine["gpu"] or f"{machine['cores']} cores, {machine['processor']}",
        commit=record.environment["commit"],
        date=record.finished[:10],
    )


def _epochs_s(folder: Path) -> float:
    """Seconds of all epochs: of a training that was killed and went on, the record has those of the last process.

    0 for the curves of older versions, which lack them.
    """
    curve = folder / "curve.jsonl"
    lines = curve.read_text(encoding="utf-8").splitlines() if curve.is_file() else []
    return sum(float(json.loads(line).get("seconds", 0.0)) for line in lines)


def _scores(report: Path, metrics: Mapping[str, Any], system: str, split: str) -> Scores | None:
    numbers = metrics["systems"][system].get(split)
    if numbers is None:
        return None
    hypotheses = read_hypotheses(report / "hypotheses" / f"{system}.{split}.jsonl")
    counts = score([h.row.text for h in hypotheses], [h.pred_text for h in hypotheses]).counts
    units = choose_units([h.row.speaker for h in hypotheses], counts.column("reference_words"))
    errors, characters = counts.column("character_errors"), counts.column("reference_characters")
    bootstrap = metrics["bootstrap"]
    drawn = bootstrap_wer([errors], [characters], units, bootstrap["resamples"], bootstrap["seed"])
    return Scores(
        wer=round(numbers["wer"], 6),
        wer_ci95=_rounded(numbers["wer_ci95"]),
        cer=round(numbers["cer"], 6),
        cer_ci95=_rounded(interval95(drawn[:, 0])),
    )


def _rounded(interval: Sequence[float]) -> tuple[float, float]:
    low, high = interval
    return round(low, 6), round(high, 6)


def read_models(path: Path) -> list[Model]:
    """What `add` wrote."""
    try:
        return [_from_json(entry) for entry in read_json(path)]
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(str(path), f"not what `add` writes: {error}", "remove it and add every run again") from error


def _from_json(entry: Mapping[str, Any]) -> Model:
    systems = (s | {split: _scores_from_json(s[split]) for split in ("dev", "test")} for s in entry["systems"])
    tuples = {"stages": tuple(Made(**made) for made in entry["stages"]), "systems": tuple(System(**s) for s in systems)}
    return Model(**{**entry, **tuples})


def _scores_from_json(scores: Mapping[str, Any] | None) -> Scores | None:
    if scores is None:
        return None
    return Scores(scores["wer"], _rounded(scores["wer_ci95"]), scores["cer"], _rounded(scores["cer_ci95"]))


def with_runs(known: Iterable[Model], runs: Iterable[Path]) -> list[Model]:
    """The known models with those of the runs in place of what is known of their recipes; in order of the recipes."""
    models = list(known)
    for run in runs:
        fresh = measured(run)
        recipes = {model.recipe for model in fresh}
        models = [model for model in models if model.recipe not in recipes] + fresh
    return sorted(models, key=lambda model: model.recipe)


def once(models: Iterable[Model]) -> list[Model]:
    """Each model once, the best on dev first: of the recipes that share it, the one that reaches most with it on dev.

    Of recipes that reach the same it is the one with more systems, then the first in the alphabet.
    """
    best: dict[str, Model] = {}
    for model in sorted(models, key=lambda m: (m.best_on_dev, -len(m.systems), m.recipe)):
        best.setdefault(model.made, model)
    return list(best.values())


def table(models: Iterable[Model]) -> str:
    """The README's table."""
    models = list(models)
    shown = once(models)
    lines = [
        "| acoustic model | recipe | trained parameters | training | WER % on test without an LM | with a word LM |",
        "|---|---|---|---|---|---|",
        *(
            f"| {m.label} | {_recipes(m, models)} | {_trained(m)} | {_training(m)} "
            f"| {_tested(m.best(with_lm=False))} | {_tested(m.best(with_lm=True))} |"
            for m in shown
        ),
    ]
    made = [stage for model in shown for stage in model.stages]
    hardware, dates, commits = (sorted({getattr(s, key) for s in made}) for key in ("hardware", "date", "commit"))
    when = " to ".join(dict.fromkeys((dates[0], dates[-1])))
    lines += [
        "",
        "95 % intervals in brackets, then the system's name in the recipe. Training is that of all stages that a model "
        f"takes, the first one first. {'; '.join(hardware)}; {when}; at commits {', '.join(commits)}.",
    ]
    return "\n".join(lines)


def systems_table(models: Iterable[Model]) -> str:
    """Every system of every model, in the report's order."""
    lines = [
        "| acoustic model | trained parameters | training | system | LM "
        "| WER % on dev | WER % on test | CER % on dev | CER % on test |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for model in models:
        head = f"{model.label} | {_trained(model)} | {_training(model)}"
        for system in model.systems:
            splits = (system.dev, system.test)
            rates = [_rate(s.wer, s.wer_ci95) if s else "" for s in splits]
            rates += [_rate(s.cer, s.cer_ci95) if s else "" for s in splits]
            lines.append(f"| {head} | {system.name} | {system.lm} | {' | '.join(rates)} |")
            head = " |  | "
    return "\n".join([*lines, "", "95 % intervals in brackets."])


def _recipes(model: Model, models: Iterable[Model]) -> str:
    """The model's recipe, and the others that share it with its stage's name there."""
    others = [m for m in models if m.made == model.made and m.recipe != model.recipe]
    return f"`{model.recipe}`" + "".join(f", also `{m.recipe}` ({m.stages[-1].stage})" for m in others)


def _trained(model: Model) -> str:
    if model.stages[-1].kind not in TRAINED:
        return "none"
    if not model.trainable or not model.parameters:  # an older record does not say
        return ""
    return f"{model.trainable / 1e6:.1f} M of {model.parameters / 1e6:.1f} M"


def _training(model: Model) -> str:
    """'82 min (42 + 40)'."""
    seconds = [made.seconds for made in model.stages if made.kind in TRAINED]
    parts = f" ({' + '.join(f'{s / 60:.0f}' for s in seconds)})" if len(seconds) > 1 else ""
    return f"{sum(seconds) / 60:.0f} min{parts}" if seconds else ""


def _tested(system: System | None) -> str:
    return f"{_rate(system.test.wer, system.test.wer_ci95)}, {system.name}" if system and system.test else ""


def _rate(rate: float, interval: tuple[float, float]) -> str:
    return f"{100 * rate:.1f} ({100 * interval[0]:.1f}–{100 * interval[1]:.1f})"


def with_table(readme: str, made: str) -> str:
    """The README with the table between its markers."""
    before, begin, rest = readme.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise UserError(str(README), f"lacks the lines {BEGIN} and {END}", "put them where the table belongs")
    return f"{before}{BEGIN}\n{made}\n{END}{after}"


def main(arguments: Sequence[str]) -> None:
    """`add RUN…`, `write` or `show RUN`."""
    command, runs = arguments[:1], [Path(run) for run in arguments[1:]]
    if command == ["add"] and runs:
        known = read_models(RESULTS) if RESULTS.is_file() else []
        write_json(RESULTS, [asdict(model) for model in with_runs(known, runs)])
    elif command == ["write"] and not runs:
        made = with_table(README.read_text(encoding="utf-8"), table(read_models(RESULTS)))
        with atomic_text(README) as file:
            file.write(made)
    elif command == ["show"] and len(runs) == 1:
        print(systems_table(measured(runs[0])))
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except UserError as wrong:
        print(f"error: {wrong}", file=sys.stderr)
        sys.exit(2)

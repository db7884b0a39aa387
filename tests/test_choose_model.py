"""The README's table of measured models is made by its tool, from a finished run and from what is committed."""

import importlib.util
import logging
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import jiwer
import numpy as np
import pytest

from hlas.errors import UserError
from hlas.files import read_json, write_json_lines
from hlas.manifests.rows import Hypothesis, Row, read_hypotheses, write_rows
from hlas.manifests.text import Language
from hlas.paths import project_root
from hlas.report import stage as report_stage
from hlas.stage import Input, Stage
from hlas.store import Record, Source, write_record

RESAMPLES, SEED = 200, 3
SENTENCES = ("dobrý den", "kde je nádraží", "to nevím", "mluvte prosím pomalu", "děkuji", "a b c")


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("choose_model", project_root() / "tools" / "choose_model.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["choose_model"] = module
    spec.loader.exec_module(module)
    return module


def spoken(split: str, wrong: int, texts: Sequence[str] = SENTENCES) -> list[Hypothesis]:
    """20 utterances of two speakers; a letter in each of the first `wrong` was not heard."""
    rows = [Row(f"{split}_{i}.wav", 2.0, texts[i % len(texts)], speaker=f"s{i % 2}") for i in range(20)]
    heard = [row.text[:-1] if i < wrong else row.text for i, row in enumerate(rows)]
    return [Hypothesis(row, text, text) for row, text in zip(rows, heard, strict=True)]


def finished(
    folder: Path,
    name: str,
    sources: Mapping[str, str],
    wrong: Mapping[str, int] | None = None,
    commit: str = "c",
    **summary: Any,
) -> None:
    """A finished stage; `sources`: inputs and the folders of the store that they came from; `wrong`: as `spoken`."""
    environment = {"machine": {"gpu": "", "cores": 2, "processor": "P"}, "commit": commit}
    inputs = {key: (Source(source, "", source, ""),) for key, source in sources.items()}
    kind = folder.name.partition("-")[0]
    record = Record(name, kind, 1, "f", {}, {}, inputs, summary, 125.0, "2026-11-21T10:00:00", environment)
    folder.mkdir(parents=True)
    for split, count in (wrong or {}).items():
        write_rows(folder / f"{split}.jsonl", spoken(split, count))
    write_record(folder, record)


def reported(run: Path, stages: Mapping[str, str], systems: Sequence[str]) -> Path:
    """A run whose recipe has the stages, each a folder of the store beside it, with the real report of the systems."""
    store = run.parent / "store"
    run.mkdir()
    (run / "recipe.resolved.yaml").write_text(f"stages: {{{', '.join(stages)}}}\n", encoding="utf-8")
    for name, folder in stages.items():
        (run / name).symlink_to(store / folder)
    report = store / f"report-{run.name}"
    inputs = {"systems": tuple(Input(store / stages[name], name) for name in systems)}
    language = Language("cs", "Czech", tuple("aábcčdďeéěfghiíjklmnňoópqrřsštťuúůvwxyýzž"))
    report.mkdir()
    stage = Stage("report", "report", report, inputs, language, logging.getLogger("hlas"), 1, run.name)
    report_stage.run(report_stage.Params(bootstrap=RESAMPLES, seed=SEED, audio="none"), stage)
    sources = tuple(Source(name, "", stages[name], "") for name in systems)
    write_record(report, Record("report", "report", 1, "f", {}, {}, {"systems": sources}, {}, 1.0, "", {}))
    (run / "metrics.json").symlink_to(report / "metrics.json")
    return run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe with a training from scratch, one that starts from it, and a Whisper as it is."""
    root = tmp_path_factory.mktemp("runs")
    store = root / "store"
    finished(store / "train-1", "called_first", {}, commit="old", trainable=9, parameters=9, model="net")
    # this one was killed: its record has the seconds of the last process only
    finished(store / "train-2", "tuned", {"init": "train-1"}, trainable=2, parameters=9, model="net", train_hours=1.5)
    write_json_lines(store / "train-2" / "curve.jsonl", [{"epoch": i, "seconds": 120.0} for i in range(3)])
    finished(store / "lm-1", "lm_there", {})
    finished(store / "logprobs-1", "logprobs", {"acoustic": "train-1"})
    finished(store / "logprobs-2", "logprobs_tuned", {"acoustic": "train-2"})
    finished(store / "decode-1", "greedy_there", {"logprobs": "logprobs-1"}, {"dev": 12, "test": 9})
    finished(store / "decode-2", "greedy_tuned", {"logprobs": "logprobs-2"}, {"dev": 8, "test": 7})
    finished(store / "decode-3", "beam", {"logprobs": "logprobs-2"}, {"dev": 7, "test": 8})
    finished(store / "decode-4", "beam_lm", {"logprobs": "logprobs-2", "lm": "lm-1"}, {"dev": 5, "test": 3})
    finished(store / "rescore-5", "rescored", {"nbest": "decode-4", "lm": "lm-1"}, {"dev": 6, "test": 2})
    finished(store / "transcribe-6", "whisper_there", {}, {"test": 4}, model="Whisper base")
    finished(store / "decode-7", "foreign", {}, {"dev": 1, "test": 1})
    stages = {
        "scratch": "train-1",
        "tuned": "train-2",
        "words": "lm-1",
        "greedy": "decode-1",
        "greedy_tuned": "decode-2",
        "beam": "decode-3",
        "beam_lm": "decode-4",
        "rescored": "rescore-5",
        "whisper": "transcribe-6",
        "foreign": "decode-7",
    }
    systems = [name for name, folder in stages.items() if folder.startswith(("decode", "rescore", "transcribe"))]
    run = reported(root / "r", stages, systems)
    (run / "z_of_before").symlink_to(store / "train-1")  # the recipe had it under this name
    return run


def test_every_system_is_kept_under_its_model(tool: ModuleType, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scratch, tuned, whisper = tool.measured(run)
    assert "foreign is left out" in capsys.readouterr().err
    assert [(s.name, s.kind, s.lm) for s in scratch.systems] == [("greedy", "decode", "")]
    assert [(s.name, s.kind, s.lm) for s in tuned.systems] == [
        ("greedy_tuned", "decode", ""),
        ("beam", "decode", ""),
        ("beam_lm", "decode", "words"),
        ("rescored", "rescore", "words"),
    ]
    (heard,) = whisper.systems
    assert (heard.name, heard.kind, heard.dev) == ("whisper", "transcribe", None)
    assert (tuned.best(with_lm=False).name, tuned.best(with_lm=True).name) == ("beam", "beam_lm")  # chosen on dev
    assert whisper.best(with_lm=True) is None


@pytest.fixture(scope="module")
def models(tool: ModuleType, run: Path) -> list[Any]:
    return list(tool.measured(run))


def test_the_names_are_those_of_the_recipe_that_was_run(models: list[Any]) -> None:
    scratch, tuned, whisper = models
    assert [m.label for m in (scratch, tuned, whisper)] == ["net (scratch)", "net (tuned)", "Whisper base (whisper)"]
    assert [made.stage for made in tuned.stages] == ["scratch", "tuned"]


def test_a_training_takes_what_it_starts_from_and_what_it_did_before_a_kill(
    tool: ModuleType, models: list[Any]
) -> None:
    scratch, tuned, whisper = models
    assert [made.seconds for made in scratch.stages] == [125]
    assert [made.seconds for made in tuned.stages] == [125, 360]
    assert [(made.kind, made.commit) for made in tuned.stages] == [("train", "old"), ("train", "c")]
    assert (tuned.trainable, tuned.parameters, tuned.stages[-1].speech_h) == (2, 9, 1.5)
    assert (whisper.trainable, [made.kind for made in whisper.stages]) == (None, ["transcribe"])
    shown = tool.table([scratch, tuned, whisper])
    assert "| net (scratch) | `r` | 0.0 M of 0.0 M | 2 min |" in shown
    assert "| net (tuned) | `r` | 0.0 M of 0.0 M | 8 min (2 + 6) |" in shown
    assert "| Whisper base (whisper) | `r` | none |  |" in shown
    assert "| net (tuned) | `r` |  | 8 min" in tool.table([replace(tuned, trainable=None)])  # as older records have it
    assert shown.endswith("2 cores, P; 2026-11-21; at commits c, old.")


def test_word_rates_are_those_of_the_report_and_character_rates_have_the_same_resamples(
    models: list[Any], run: Path
) -> None:
    metrics = read_json(run / "metrics.json")
    systems = [system for item in models for system in item.systems]
    assert len(systems) == 6
    resamples = metrics["bootstrap"]["resamples"]  # more than asked for, as there are many comparisons
    for system in systems:
        for split in ("dev", "test"):
            scores, numbers = getattr(system, split), metrics["systems"][system.name].get(split)
            assert (scores is None) == (numbers is None)
            if scores is None:
                continue
            assert scores.wer == pytest.approx(numbers["wer"], abs=1e-6)
            assert scores.wer_ci95 == pytest.approx(numbers["wer_ci95"], abs=1e-6)
            heard = read_hypotheses(run / system.name / f"{split}.jsonl")
            aligned = [jiwer.process_characters(h.row.text, h.pred_text) for h in heard]
            errors = np.array([a.substitutions + a.deletions + a.insertions for a in aligned])
            characters = np.array([len(h.row.text) for h in heard])
            drawn = np.random.default_rng(SEED).integers(0, len(heard), (resamples, len(heard)))
            rates = errors[drawn].sum(axis=1) / characters[drawn].sum(axis=1)
            assert scores.cer == pytest.approx(errors.sum() / characters.sum(), abs=1e-6)
            assert scores.cer_ci95 == pytest.approx(np.percentile(rates, [2.5, 97.5]), abs=1e-6)


def test_show_lists_every_system_with_both_splits(
    tool: ModuleType, run: Path, models: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    tool.main(["show", str(run)])
    head, _, *lines = capsys.readouterr().out.splitlines()
    assert head.startswith("| acoustic model | trained parameters | training | system | LM |")
    assert lines[0].startswith("| net (scratch) | 0.0 M of 0.0 M | 2 min | greedy |  | ")
    assert lines[3].startswith("|  |  |  | beam_lm | words | ")
    assert lines[5].startswith("| Whisper base (whisper) | none |  | whisper |  |  | ")
    assert len({line.count("|") for line in (head, *lines[:6])}) == 1
    beam_lm = models[1].systems[2].test
    low, high = (100 * bound for bound in beam_lm.cer_ci95)
    assert lines[3].endswith(f"| {100 * beam_lm.cer:.1f} ({low:.1f}–{high:.1f}) |")


def test_what_add_writes_is_what_write_reads(
    tool: ModuleType, run: Path, models: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tool, "RESULTS", tmp_path / "models.json")
    monkeypatch.setattr(tool, "README", tmp_path / "README.md")
    tool.README.write_text(f"# hlas\n{tool.BEGIN}\nold\n{tool.END}\nmore\n", encoding="utf-8")
    tool.main(["add", str(run)])
    assert tool.read_models(tool.RESULTS) == models
    tool.main(["add", str(run)])  # the same recipe again: in place of what was there
    assert tool.read_models(tool.RESULTS) == models
    tool.main(["write"])
    made = tool.README.read_text(encoding="utf-8")
    assert made == f"# hlas\n{tool.BEGIN}\n{tool.table(models)}\n{tool.END}\nmore\n"


def test_two_recipes_share_a_model(tool: ModuleType, run: Path) -> None:
    store = run.parent / "store"
    other = {"cutout": "train-1", "cutout_greedy": "decode-1", "cutout_lm": "decode-8", "lm": "lm-1"}
    finished(store / "decode-8", "cutout_lm", {"logprobs": "logprobs-1", "lm": "lm-1"}, {"dev": 3, "test": 12})
    second = reported(run.parent / "a", other, ["cutout_greedy", "cutout_lm"])
    models = tool.with_runs([], [run, second])
    assert [(m.recipe, m.label) for m in models] == [
        ("a", "net (cutout)"),
        ("r", "net (scratch)"),
        ("r", "net (tuned)"),
        ("r", "Whisper base (whisper)"),
    ]
    assert tool.with_runs(tool.with_runs([], [second]), [run]) == models
    assert [m.label for m in tool.once(models)] == ["net (cutout)", "net (tuned)", "Whisper base (whisper)"]
    assert "| net (cutout) | `a`, also `r` (scratch) | " in tool.table(models)


def model(tool: ModuleType, made: str, recipe: str = "r", **dev_and_test: tuple[float, float]) -> Any:
    """A model and the WERs of its systems on dev and test; those with an LM have 'lm' in their names."""

    def scores(wer: float) -> Any:
        return tool.Scores(wer, (wer - 0.02, wer + 0.02), wer / 3, (wer / 4, wer / 2))

    systems = (
        tool.System(name, "decode", "lm" if "lm" in name else "", scores(dev), scores(test))
        for name, (dev, test) in dev_and_test.items()
    )
    stage = tool.Made("train", "train", 125, 1.7, "2 cores, a processor", "abc", "2026-11-21")
    return tool.Model(recipe, made, made, 2_500_000, 500_000, (stage,), tuple(systems))


def test_the_best_on_dev_comes_first(tool: ModuleType) -> None:
    worse = model(tool, "worse", greedy=(0.5, 0.2), lm=(0.45, 0.1))
    better = model(tool, "better", beam=(0.6, 0.6), beam_lm=(0.3, 0.35), rescored_lm=(0.31, 0.3))
    lines = tool.table([worse, better]).splitlines()
    assert lines[2] == (
        "| better (train) | `r` | 0.5 M of 2.5 M | 2 min | 60.0 (58.0–62.0), beam | 35.0 (33.0–37.0), beam_lm |"
    )
    assert lines[3].startswith("| worse")


def test_a_model_of_several_recipes_stands_once_with_what_is_best_on_dev(tool: ModuleType) -> None:
    first, second = model(tool, "m", "a", lm=(0.5, 0.3)), model(tool, "m", "b", lm=(0.4, 0.6))
    other = model(tool, "n", lm=(0.45, 0.5))
    for models in ([first, second, other], [other, second, first]):
        assert [m.recipe for m in tool.once(models)] == ["b", "r"]
    more = model(tool, "m", "c", greedy=(0.6, 0.6), lm=(0.4, 0.6))  # as good, and says more
    assert [m.recipe for m in tool.once([second, more])] == ["c"]


def test_the_readme_holds_what_the_tool_writes(tool: ModuleType) -> None:
    models = tool.read_models(tool.RESULTS)
    assert models
    readme = tool.README.read_text(encoding="utf-8")
    assert tool.with_table(readme, tool.table(models)) == readme


def test_a_readme_without_the_place_is_told(tool: ModuleType) -> None:
    with pytest.raises(UserError, match="lacks the lines"):
        tool.with_table("# hlas", "| table |")


def test_a_run_without_its_report_is_told(tool: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="run the whole recipe"):
        tool.measured(tmp_path)


def test_a_training_that_the_recipe_has_no_more_is_told(tool: ModuleType, run: Path, tmp_path: Path) -> None:
    stale = tmp_path / "r"
    stale.mkdir()
    (stale / "metrics.json").symlink_to((run / "metrics.json").resolve())
    (stale / "recipe.resolved.yaml").write_text("stages: {greedy: }\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"train-1: no stage of the recipe leads to it"):
        tool.measured(stale)


@pytest.mark.parametrize("content", ["[{}]", '[{"recipe": "r", "plain": {}}]', "[", '{"a": 1}'])
def test_a_file_of_another_form_is_told(tool: ModuleType, tmp_path: Path, content: str) -> None:
    path = tmp_path / "models.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(UserError, match="add every run again"):
        tool.read_models(path)

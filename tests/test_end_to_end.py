"""The whole job, from nothing to the report, as a person runs it: the demo's recipe with a tiny corpus and model."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import jiwer
import pytest

from hlas.manifests.rows import audio_path, read_hypotheses, read_manifest
from hlas.paths import project_root

RECIPE = str(project_root() / "tests/fixtures/tiny.yaml")


def hlas(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    code = "from hlas.cli import main; main()"
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False, cwd=cwd
    )


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    done = hlas("run", RECIPE, "--runs", str(folder))
    assert done.returncode == 0, done.stderr
    assert "report: " in done.stdout
    assert "beam_lm  test WER" in done.stdout
    return folder


def test_metrics_are_those_of_the_hypotheses(runs: Path) -> None:
    home = runs / "tiny"
    metrics = json.loads((home / "metrics.json").read_text(encoding="utf-8"))
    assert metrics["recipe"] == "tiny"
    assert set(metrics["systems"]) == {"greedy", "beam", "beam_lm"}
    for system, splits in metrics["systems"].items():
        assert set(splits) == {"dev", "test"}
        for split, numbers in splits.items():
            path = home / "hypotheses" / f"{system}.{split}.jsonl"
            rows = read_hypotheses(path)
            expected = jiwer.process_words([r.row.text for r in rows], [r.pred_text for r in rows])
            assert numbers["wer"] == pytest.approx(expected.wer, abs=1e-6)
            assert numbers["deletions"] == expected.deletions
            assert numbers["utterances"] == len(rows)
            low, high = numbers["wer_ci95"]
            assert low <= numbers["wer"] <= high
            with path.with_suffix(".csv").open(encoding="utf-8", newline="") as file:
                assert [r["pred_text"] for r in csv.DictReader(file)] == [r.pred_text for r in rows]
            assert audio_path(rows[0].row, path.parent.resolve()).is_file()
    assert {c["a"] for c in metrics["comparisons"]} | {c["b"] for c in metrics["comparisons"]} >= {"greedy", "beam_lm"}
    for name in ("report.html", "report.md", "recipe.resolved.yaml"):
        assert (home / name).stat().st_size > 500


def test_every_row_is_kept_or_rejected_and_splits_are_disjoint(runs: Path) -> None:
    folder = runs / "tiny" / "manifests"
    record = json.loads((folder / "stage.json").read_text(encoding="utf-8"))
    with (folder / "rejects.tsv").open(encoding="utf-8") as file:
        rejected = len(file.readlines()) - 1
    splits = record["summary"]["splits"]
    kept = {split: read_manifest(folder / f"{split}.jsonl") for split in splits}
    assert sum(s["read"] for s in splits.values()) == sum(map(len, kept.values())) + rejected
    assert rejected > 0  # the demo corpus has defects on purpose
    speakers = [{row.speaker for row in rows} for rows in kept.values()]
    texts = [{row.text for row in rows} for rows in kept.values()]
    assert len(set().union(*speakers)) == sum(map(len, speakers))
    assert len(set().union(*texts)) == sum(map(len, texts))


def test_a_second_run_makes_nothing_and_a_new_search_only_what_follows(runs: Path) -> None:
    done = hlas("plan", RECIPE, "--runs", str(runs))
    assert done.stdout.splitlines()[-1] == "0 of 10 stages to run"
    done = hlas("plan", RECIPE, "--runs", str(runs), "--set", "beam_lm.width=8")
    to_run = [line.split()[0] for line in done.stdout.splitlines() if "to run" in line and "stages" not in line]
    assert to_run == ["beam_lm", "report"]
    assert "changed: width" in done.stdout


def test_an_older_report_does_not_stand_for_a_newer_recipe(runs: Path) -> None:
    home = runs / "tiny"
    changed = ["--runs", str(runs), "--set", "report.utterances=3"]
    done = hlas("run", RECIPE, *changed, "--to", "lm")
    assert done.returncode == 0, done.stderr
    assert not (home / "report.html").exists()
    assert (home / "report" / "report.html").is_file()
    assert "report: " not in done.stdout
    assert hlas("run", RECIPE, "--runs", str(runs)).returncode == 0
    assert (home / "report.html").is_file()
    assert hlas("run", RECIPE, "--runs", str(runs), "--force", "lm", "--to", "lm").returncode == 0
    assert not (home / "report.html").exists()  # it rested on the LM that was made anew
    assert hlas("run", RECIPE, "--runs", str(runs)).returncode == 0
    assert (home / "report.html").is_file()


def test_transcribe_takes_the_trained_model(runs: Path, tmp_path: Path) -> None:
    home = runs / "tiny"
    clips = [audio_path(r, home / "manifests") for r in read_manifest(home / "manifests" / "test.jsonl")[:2]]
    model = ["--model", str(home / "train")]
    done = hlas("transcribe", *model, "--format", "json,srt", "--out", str(tmp_path), *map(str, clips))
    assert done.returncode == 0, done.stderr
    greedy = {h.row.utterance: h.pred_text for h in read_hypotheses(home / "greedy" / "test.jsonl")}
    found = {}
    for path in tmp_path.rglob("*.json"):
        data = json.loads(path.read_text(encoding="utf-8"))
        for entry in data if isinstance(data, list) else [data]:
            found[Path(entry["file"]).stem] = entry["text"]
    assert found == {clip.stem: greedy[clip.stem] for clip in clips}
    with_lm = hlas("transcribe", *model, "--lm", str(home / "lm"), str(clips[0]))
    assert with_lm.returncode == 0, with_lm.stderr
    missing = hlas("transcribe", *model, str(tmp_path / "nothing.wav"))
    assert missing.returncode == 2
    assert "nothing.wav" in missing.stderr


def test_a_run_gives_the_table_of_models_its_line(runs: Path) -> None:
    path = project_root() / "tools" / "choose_model.py"
    code = f"import dataclasses, json, runpy, pathlib; tool = runpy.run_path({str(path)!r}); found = tool['measured']"
    code += f"(pathlib.Path({str(runs / 'tiny')!r})); print(json.dumps([dataclasses.asdict(m) for m in found]))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    (model,) = json.loads(done.stdout)
    metrics = json.loads((runs / "tiny" / "metrics.json").read_text(encoding="utf-8"))["systems"]
    assert (model["recipe"], [made["stage"] for made in model["stages"]]) == ("tiny", ["train"])
    assert [(s["name"], s["lm"]) for s in model["systems"]] == [("greedy", ""), ("beam", ""), ("beam_lm", "lm")]
    for system in model["systems"]:
        for split in ("dev", "test"):
            numbers = metrics[system["name"]][split]
            for key in ("wer", "wer_ci95", "cer"):
                assert system[split][key] == pytest.approx(numbers[key], abs=1e-6)
            low, high = system[split]["cer_ci95"]
            assert low <= system[split]["cer"] <= high
    assert 0 < model["trainable"] <= model["parameters"]

"""The report stage on small stage folders made by hand: what it writes, what it refuses, what it leaves unchanged."""

import csv
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from hlas.errors import UserError
from hlas.files import read_json, write_json, write_json_lines
from hlas.manifests.rows import Candidate, Hypothesis, Row, audio_path, read_hypotheses, write_rows
from hlas.manifests.text import Language
from hlas.report.evaluate import evaluate
from hlas.report.headline import headline
from hlas.report.ladder import ladder
from hlas.report.provenance import command_line
from hlas.report.significance import holm
from hlas.report.stage import Params, run
from hlas.report.systems import load_systems
from hlas.stage import Input, Stage
from hlas.store import Record, Source, write_record

LANGUAGE = Language("cs", "Czech", tuple("aábcčdďeéěfghiíjklmnňoópqrřsštťuúůvwxyýzž"))
SENTENCES = ["dobrý den", "kde je <nádraží> & vlak", "to nevím", "mluvte prosím pomalu", "děkuji"]


def rows(split: str = "test", speakers: int = 12, repeat: int = 4) -> list[Row]:
    return [
        Row(
            audio_filepath=f"../manifests-a/clips/{split}_{i}.flac",
            duration=2.0,
            text=SENTENCES[i % len(SENTENCES)],
            raw_text=SENTENCES[i % len(SENTENCES)].capitalize() + ".",
            speaker=f"speaker{i % speakers}",
        )
        for i in range(len(SENTENCES) * repeat)
    ]


def heard(row: Row, text: str, nbest: Sequence[str] = ()) -> Hypothesis:
    return Hypothesis(row, text, text, tuple(Candidate(t, -1.0, -2.0) for t in nbest))


def perfect(row: Row) -> Hypothesis:
    return heard(row, row.text)


def without_last_word(row: Row) -> Hypothesis:
    return heard(row, " ".join(row.text.split()[:-1]), nbest=(row.text, "něco jiného"))


def nothing(row: Row) -> Hypothesis:
    return heard(row, "")


def write_text(path: Path, text: str) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text, encoding="utf-8")


class Store:
    """A store folder that stages are put into."""

    def __init__(self, root: Path) -> None:
        self.root = root / "store"
        self.root.mkdir(parents=True)

    def add(
        self,
        name: str,
        kind: str,
        inputs: Mapping[str, Sequence[str]] = {},
        files: Mapping[str, Any] = {},
        summary: Mapping[str, Any] = {},
        outside: Mapping[str, str] = {},
    ) -> Input:
        """Write a finished stage; `inputs` name folders, `files` are JSON values or lists of hypotheses."""
        folder = self.root / f"{kind}-{name}"
        folder.mkdir()
        for file, content in files.items():
            if file.endswith(".jsonl") and content and isinstance(content[0], Hypothesis):
                write_rows(folder / file, content)
            elif file.endswith(".jsonl"):
                write_json_lines(folder / file, content)
            else:
                write_json(folder / file, content)
        sources = {k: tuple(Source(v.partition("-")[2], "", v, "") for v in names) for k, names in inputs.items()}
        sources |= {k: (Source("", "", "", path),) for k, path in outside.items()}
        environment = {
            "python": "3.11.9",
            "versions": {"jiwer": "4.0.0"},
            "commit": "abc123",
            "machine": {"processor": "A processor", "cores": 2, "gpu": ""},
            "command": "hlas run recipes/x.yaml",
        }
        record = Record(name, kind, 1, "f" * 64, {}, {"beam": 8}, sources, summary, 61.0, "2026-01-02", environment)
        write_record(folder, record)
        return Input(folder, name)

    def stage(self, systems: Sequence[Input], baseline: Input | None = None, curve: Sequence[Input] = ()) -> Stage:
        folder = self.root / "report-x.partial"
        folder.mkdir(exist_ok=True)
        inputs = {"systems": tuple(systems), "curve": tuple(curve)} | ({"baseline": (baseline,)} if baseline else {})
        return Stage(
            recipe="czech_demo",
            name="report",
            kind="report",
            folder=folder,
            inputs=inputs,
            language=LANGUAGE,
            log=logging.getLogger("test"),
            workers=1,
        )


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


def whole_recipe(store: Store) -> list[Input]:
    """Greedy, beam + LM and Whisper over a manifest, an LM, a training and its log-probs."""
    train = {"in_release": 900, "read": 100, "kept": 90, "rejected": {"too_long": 10}, "overlaps_kept": {}}
    test_split = {"in_release": 20, "read": 20, "kept": 20, "rejected": {}, "overlaps_kept": {"speaker_in_dev": 2}}
    splits = {"train": train, "test": test_split}
    store.add("a", "manifests", summary={"counts": {"train": 90, "test": 20, "rejected": 10}, "splits": splits})
    store.add("b", "lm", {"text": ["manifests-a"]}, summary={"counts": {"sentences": 500, "in_dev_or_test": 37}})
    epochs = [{"epoch": 0, "dev_wer": None}, {"epoch": 1, "dev_wer": 0.9}, {"epoch": 2, "dev_wer": 0.7}]
    store.add("c", "train", {"train": ["manifests-a"]}, {"curve.jsonl": epochs}, {"parameters": 800_000})
    store.add("d", "logprobs", {"acoustic": ["train-c"], "data": ["manifests-a"]})
    test, dev = rows("test"), rows("dev")
    grid = [{"alpha": a, "beta": b, "wer": 0.2 + a / 10, "cer": 0.1} for a in (0.5, 1.0) for b in (0.0, 1.0)]
    greedy = store.add(
        "greedy",
        "decode",
        {"logprobs": ["logprobs-d"]},
        {
            "test.jsonl": [nothing(r) if i % 2 else perfect(r) for i, r in enumerate(test)],
            "dev.jsonl": [nothing(r) for r in dev],
            "timing.json": {"test": {"audio_s": 40.0, "seconds": 2.0}, "dev": {"audio_s": 40.0, "seconds": 0.0}},
        },
    )
    beam_lm = store.add(
        "beam_lm",
        "decode",
        {"logprobs": ["logprobs-d"], "lm": ["lm-b"]},
        {
            "test.jsonl": [without_last_word(r) if i % 5 == 0 else perfect(r) for i, r in enumerate(test)],
            "tuning.json": {"split": "dev", "table": grid, "chosen": grid[0]},
            "oov.json": {"test": {"words": 100, "oov_words": 3}},
        },
    )
    whisper = store.add(
        "whisper",
        "transcribe",
        {"data": ["manifests-a"]},
        {"test.jsonl": [heard(r, "jiná slova") for r in reversed(test)]},
    )
    return [greedy, beam_lm, whisper]


def test_metrics_json_has_the_schema_and_the_right_numbers(store: Store) -> None:
    stage = store.stage(whole_recipe(store))
    summary = run(Params(), stage)
    data = read_json(stage.folder / "metrics.json")
    assert (data["recipe"], data["language"]) == ("czech_demo", "cs")
    assert list(data["systems"]) == ["greedy", "beam_lm", "whisper"]
    assert list(data["systems"]["greedy"]) == ["test", "dev"]
    greedy = data["systems"]["greedy"]["test"]
    keys = {"wer", "cer", "mer", "wil", "bleu", "substitutions", "deletions", "insertions", "hits"}
    keys |= {"utterances", "words", "audio_s", "rtfx", "wer_ci95"}
    assert keys <= greedy.keys()
    words = sum(len(r.text.split()) for r in rows())
    lost = sum(len(r.text.split()) for r in rows()[1::2])
    assert (greedy["words"], greedy["deletions"], greedy["hits"]) == (words, lost, words - lost)
    assert greedy["wer"] == pytest.approx(lost / words)
    low, high = greedy["wer_ci95"]
    assert low < greedy["wer"] < high
    assert (greedy["ci_unit"], greedy["ci_units"]) == ("speaker", 12)
    assert greedy["rtfx"] == pytest.approx(20.0)
    assert greedy["audio_s"] == 40.0
    assert data["systems"]["greedy"]["dev"]["rtfx"] is None  # no measurable time
    beam = data["systems"]["beam_lm"]["test"]
    assert beam["oracle_wer"] == 0.0  # the n-best lists hold the reference
    assert beam["oov_share"] == pytest.approx(0.03)
    assert "oracle_wer" not in greedy
    pairs = {(c["a"], c["b"], c["split"]): c for c in data["comparisons"]}
    assert set(pairs) == {
        ("greedy", "beam_lm", "test"),
        ("greedy", "whisper", "test"),
        ("whisper", "beam_lm", "test"),  # the best against all others, too
    }
    comparison = pairs["greedy", "beam_lm", "test"]
    assert comparison["wer_delta"] == pytest.approx(beam["wer"] - greedy["wer"])
    assert comparison["wer_delta_ci95"][1] < 0
    assert comparison["p_value"] < 0.05
    assert "12 speakers" in comparison["test"]
    assert {"p_holm", "mapsswe", "hours", "hours_needed"} <= comparison.keys()
    assert [c["p_holm"] for c in pairs.values()] == pytest.approx(holm([c["p_value"] for c in pairs.values()]))
    assert {"wip", "chrf", "sentence_error_rate", "raw"} <= greedy.keys()
    assert {b["dimension"] for b in data["breakdowns"]["test"]} == {"text_length", "speaker", "char_rate"}
    assert data["errors"]["test"]["greedy"]["worst"][0]["errors"] == 5
    assert data["command"] == command_line()
    assert data["stages"][0]["name"] == "a" and data["stages"][0]["fingerprint"] == "f" * 64
    assert data["environment"]["versions"]["jiwer"]
    assert summary["counts"]["test"] == {"systems": 3, "utterances": 20}


def test_a_second_run_writes_the_same_bytes(store: Store) -> None:
    systems = whole_recipe(store)
    first = store.stage(systems)
    run(Params(), first)
    kept = {p.relative_to(first.folder): p.read_bytes() for p in first.folder.rglob("*") if p.is_file()}
    assert {"metrics.json", "report.md", "report.html", "tensorboard", "hypotheses"} == {p.parts[0] for p in kept}
    run(Params(), replace(first, workers=2))
    assert kept == {name: (first.folder / name).read_bytes() for name in kept}


def test_the_headline_says_who_wins_by_how_much_and_whether_it_is_real(store: Store) -> None:
    systems = load_systems(whole_recipe(store))
    (test, dev) = evaluate(systems, "greedy", 1000, 0)
    assert (test.split, dev.split) == ("test", "dev")
    verdict = headline(test)[0]
    assert verdict.startswith("beam_lm has the lowest word error rate on test")
    assert "the baseline greedy" in verdict
    assert "is real" in verdict
    assert headline(dev)[0].startswith("greedy reaches a WER of 100.0")


def test_few_speakers_are_noted(store: Store) -> None:
    item = store.add("greedy", "decode", files={"test.jsonl": [perfect(r) for r in rows(speakers=9)]})
    stage = store.stage([item])
    run(Params(), stage)
    assert read_json(stage.folder / "metrics.json")["systems"]["greedy"]["test"]["ci_unit"] == "utterance"
    assert "new speakers" in (stage.folder / "report.md").read_text(encoding="utf-8")


def test_mistakes_in_the_inputs_are_user_errors(store: Store) -> None:
    greedy = store.add("greedy", "decode", files={"test.jsonl": [perfect(r) for r in rows()]})
    other = store.add("other", "decode", files={"test.jsonl": [perfect(r) for r in rows()]})
    empty = store.add("empty", "decode", files={"test.jsonl": []})
    with pytest.raises(UserError, match="'other' is not one of the systems: greedy"):
        run(Params(), store.stage([greedy], baseline=other))
    with pytest.raises(UserError, match="no hypotheses"):
        run(Params(), store.stage([greedy, empty]))
    with pytest.raises(UserError, match="two systems are named 'greedy'"):
        run(Params(), store.stage([greedy, greedy]))
    with pytest.raises(ValueError, match="at least 100"):
        Params(bootstrap=10)


def test_hypotheses_are_copied_and_still_lead_to_the_audio(store: Store) -> None:
    systems = whole_recipe(store)
    stage = store.stage(systems)
    run(Params(), stage)
    folder = stage.folder / "hypotheses"
    original, copied = (read_hypotheses(p) for p in (systems[1].path / "test.jsonl", folder / "beam_lm.test.jsonl"))
    assert len(copied) == len(original) == 20
    for before, after in zip(original, copied, strict=True):
        assert (after.pred_text, after.nbest, after.row.text) == (before.pred_text, before.nbest, before.row.text)
        assert audio_path(after.row, folder).resolve() == audio_path(before.row, systems[1].path).resolve()
    with (folder / "beam_lm.test.csv").open(encoding="utf-8", newline="") as file:
        table = list(csv.DictReader(file))
    assert [line["pred_text"] for line in table] == [h.pred_text for h in original]
    assert [line["audio_filepath"] for line in table] == [h.row.audio_filepath for h in copied]


def test_the_page_and_markdown_carry_summary_caveats_and_provenance(store: Store) -> None:
    stage = store.stage(whole_recipe(store))
    write_text(store.root.parent / "czech_demo" / "recipe.resolved.yaml", "name: czech_demo\nstages: {a: 1}\n")
    run(Params(title="Czech <demo>"), stage)
    html = unescape((stage.folder / "report.html").read_text(encoding="utf-8"))
    markdown = (stage.folder / "report.md").read_text(encoding="utf-8").replace("\\", "")
    assert "<title>Czech &lt;demo&gt;" in (stage.folder / "report.html").read_text(encoding="utf-8")
    for expected in (
        "its training data may hold these clips",
        "37 sentences of its text are in dev or test",
        "beam_lm, 2-best oracle",
        "too long 10",
        "train was limited to 100 of the 900 clips",
        "test shares with other splits: speaker in dev 2",
        "text rules version 1",
        "abc123",
        command_line(),
        "stages: {a: 1}",
        "f" * 64,
    ):
        assert expected in html, expected
        assert expected in markdown, expected


def test_markdown_tables_have_as_many_cells_as_columns(store: Store) -> None:
    stage = store.stage(whole_recipe(store))
    run(Params(title="a|b"), stage)
    text = (stage.folder / "report.md").read_text(encoding="utf-8")
    assert text.startswith("# a\\|b\n")
    tables = [block.splitlines() for block in text.split("\n\n") if block.startswith("|")]
    assert len(tables) >= 4
    for table in tables:
        assert len({line.replace("\\|", "").count("|") for line in table}) == 1


def test_trainings_named_by_curve_are_shown_though_no_system_rests_on_them(store: Store) -> None:
    greedy = store.add("greedy", "decode", files={"test.jsonl": [perfect(r) for r in rows()]})
    epochs = [{"epoch": 0, "dev_wer": 0.8}, {"epoch": 1, "dev_wer": 0.5}]
    other = store.add("other_model", "train", files={"curve.jsonl": epochs}, summary={"parameters": 5})
    stage = store.stage([greedy], curve=[other])
    run(Params(), stage)
    assert "epoch 2" in (stage.folder / "report.html").read_text(encoding="utf-8")
    assert "other_model (train)" in (stage.folder / "report.md").read_text(encoding="utf-8").replace("\\", "")
    assert [s["name"] for s in read_json(stage.folder / "metrics.json")["stages"]] == ["greedy", "other_model"]


def test_the_ladder_climbs_to_rescored_and_shows_a_shared_oracle_once(store: Store) -> None:
    store.add("d", "logprobs")
    test = rows()
    lm = {"lm": ["lm-b"], "logprobs": ["logprobs-d"]}
    greedy = store.add("greedy", "decode", {"logprobs": ["logprobs-d"]}, {"test.jsonl": [nothing(r) for r in test]})
    beam_lm = store.add("beam_lm", "decode", lm, {"test.jsonl": [without_last_word(r) for r in test]})
    point = {"alpha": 1.0, "beta": 0.0, "wer": 0.2, "cer": 0.1}
    table = [point | {"redecoded": True, "width": 8}, point | {"beta": 1.0, "redecoded": False}]
    rescored = store.add(
        "rescored",
        "rescore",
        {"nbest": ["decode-beam_lm"], "lm": ["lm-b"]},
        {
            "test.jsonl": [replace(without_last_word(r), pred_text=r.text) for r in test],
            "tuning.json": {"split": "dev", "chosen": table[0], "table": table},
            "oov.json": {"test": {"words": 50, "oov_words": 2}},
        },
    )
    other = store.add("whisper", "transcribe", {}, {"test.jsonl": [perfect(r) for r in test]})
    systems = load_systems([other, rescored, beam_lm, greedy])
    assert [s.role for s in systems] == ["other", "rescored", "beam_lm", "greedy"]
    assert [(p.redecoded, p.width) for p in systems[1].tuning] == [(True, 8), (False, None)]
    (result,) = evaluate(systems, "greedy", 100, 0)
    rungs = ladder(result)
    assert [r.label for r in rungs] == ["greedy", "beam_lm", "beam_lm, 2-best oracle", "rescored", "whisper"]
    assert [r.group for r in rungs] == ["logprobs-d"] * 4 + [""]
    assert rungs[3].oov_share == pytest.approx(0.04)


def test_each_hypothesis_comes_with_its_own_counts(store: Store) -> None:
    test = [replace(rows()[0], text="", raw_text=""), *rows()[1:]]
    heard_all = [heard(r, "a b") for r in test]
    stage = store.stage([store.add("greedy", "decode", files={"test.jsonl": heard_all})])
    run(Params(), stage)
    path = stage.folder / "hypotheses" / "greedy.test.jsonl"
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    counts = read_json(stage.folder / "metrics.json")["systems"]["greedy"]["test"]
    for key in ("substitutions", "deletions", "insertions", "hits"):
        assert sum(line[key] for line in lines) == counts[key]
    assert (lines[0]["wer"], lines[0]["cer"], lines[0]["reference_words"]) == (None, None, 0)
    reference = lines[1]["text"].split()
    assert lines[1]["wer"] == pytest.approx(max(len(reference), 2) / len(reference))
    with path.with_suffix(".csv").open(encoding="utf-8", newline="") as file:
        table = list(csv.DictReader(file))
    assert [line["wer"] for line in table] == ["" if line["wer"] is None else str(line["wer"]) for line in lines]


def test_tensorboard_reads_the_numbers_of_metrics_json(store: Store) -> None:
    stage = store.stage(whole_recipe(store))
    run(Params(), stage)
    systems = read_json(stage.folder / "metrics.json")["systems"]
    for name, splits in systems.items():
        accumulator = EventAccumulator(str(stage.folder / "tensorboard" / name))
        accumulator.Reload()
        tags = accumulator.Tags()["scalars"]
        assert {f"{split}/wer" for split in splits} <= set(tags)
        for tag in tags:
            split, _, key = tag.partition("/")
            low_high = dict(zip(("wer_low", "wer_high"), splits[split]["wer_ci95"], strict=True))
            expected = low_high[key] if key in low_high else splits[split][key]
            assert accumulator.Scalars(tag)[0].value == pytest.approx(expected, rel=1e-6)


def test_a_training_that_another_recipe_made_has_the_name_it_is_read_by(store: Store) -> None:
    greedy = store.add("greedy", "decode", files={"test.jsonl": [perfect(r) for r in rows()]})
    made = store.add("train", "train", files={"curve.jsonl": [{"epoch": 0, "dev_wer": 0.8}]}, summary={"parameters": 5})
    stage = store.stage([greedy], curve=[replace(made, stage="scratch")])
    run(Params(), stage)
    assert [s["name"] for s in read_json(stage.folder / "metrics.json")["stages"]] == ["greedy", "scratch"]

"""The report stage on small stage folders made by hand: what it writes, what it refuses, what it leaves unchanged."""

import csv
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from hlas.errors import UserError
from hlas.files import read_json, write_json, write_json_lines
from hlas.manifests.rows import Candidate, Hypothesis, Row, audio_path, read_hypotheses, write_rows
from hlas.manifests.text import Language
from hlas.report.diffs import Cell, word_grid
from hlas.report.evaluate import evaluate
from hlas.report.facts import facts, flat
from hlas.report.headline import headline
from hlas.report.score import score_files, score_text
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
    assert set(pairs) == {("greedy", "beam_lm", "test"), ("greedy", "whisper", "test")}
    comparison = pairs["greedy", "beam_lm", "test"]
    assert comparison["wer_delta"] == pytest.approx(beam["wer"] - greedy["wer"])
    assert comparison["wer_delta_ci95"][1] < 0
    assert comparison["p_value"] < 0.05
    assert "12 speakers" in comparison["test"]
    assert data["stages"][0]["name"] == "a"
    assert data["environment"]["versions"]["jiwer"]
    assert summary["counts"]["test"] == {"systems": 3, "utterances": 20}


def test_a_second_run_writes_the_same_bytes(store: Store) -> None:
    systems = whole_recipe(store)
    first = store.stage(systems)
    run(Params(), first)
    kept = {name: (first.folder / name).read_bytes() for name in ("metrics.json", "report.md", "report.html")}
    run(Params(), first)
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


def test_a_difference_that_chance_explains_is_called_so(store: Store) -> None:
    test = rows(repeat=6)
    a = [nothing(r) if i == 7 else perfect(r) for i, r in enumerate(test)]
    b = [nothing(r) if i in (3, 11) else perfect(r) for i, r in enumerate(test)]
    inputs = [store.add("a", "decode", files={"test.jsonl": a}), store.add("b", "decode", files={"test.jsonl": b})]
    (result,) = evaluate(load_systems(inputs), "b", 1000, 0)
    assert "may be chance" in headline(result)[0]
    (comparison,) = result.comparisons
    assert comparison.p_value > 0.05


def test_the_best_two_are_compared_where_neither_is_the_baseline(store: Store) -> None:
    test = rows()
    files = {
        "base": [nothing(r) for r in test],
        "good": [nothing(r) if i < 3 else perfect(r) for i, r in enumerate(test)],
        "better": [nothing(r) if i < 1 else perfect(r) for i, r in enumerate(test)],
    }
    inputs = [store.add(name, "decode", files={"test.jsonl": data}) for name, data in files.items()]
    (result,) = evaluate(load_systems(inputs), "base", 200, 0)
    assert [(c.a, c.b) for c in result.comparisons] == [("base", "good"), ("base", "better"), ("good", "better")]
    assert "Second is good" in headline(result)[1]


def test_few_speakers_are_noted(store: Store) -> None:
    item = store.add("greedy", "decode", files={"test.jsonl": [perfect(r) for r in rows(speakers=9)]})
    stage = store.stage([item])
    run(Params(), stage)
    assert read_json(stage.folder / "metrics.json")["systems"]["greedy"]["test"]["ci_unit"] == "utterance"
    assert "new speakers" in (stage.folder / "report.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda hyps: hyps[1:], "has 20 utterances and 'b' 19; 1 only in 'a': test_0"),
        (lambda hyps: [replace(hyps[0], row=replace(hyps[0].row, text="jiný")), *hyps[1:]], "other references for 1"),
        (lambda hyps: [*hyps, hyps[0]], "1 utterances occur twice"),
    ],
)
def test_systems_on_different_utterances_do_not_compare(store: Store, change: Any, message: str) -> None:
    hyps = [perfect(r) for r in rows()]
    a = store.add("a", "decode", files={"test.jsonl": hyps})
    b = store.add("b", "decode", files={"test.jsonl": change(hyps)})
    with pytest.raises(UserError, match=message):
        evaluate(load_systems([a, b]), "a", 100, 0)


def test_utterances_of_one_name_in_several_folders_are_told_apart(store: Store) -> None:
    named_alike = [replace(r, audio_filepath=f"../m/{i}/audio.wav") for i, r in enumerate(rows())]
    a = store.add("a", "decode", files={"test.jsonl": [perfect(r) for r in named_alike]})
    b = store.add("b", "decode", files={"test.jsonl": [perfect(r) for r in reversed(named_alike)]})
    (result,) = evaluate(load_systems([a, b]), "a", 100, 0)
    assert [item.score.wer for item in result.systems] == [0.0, 0.0]
    assert result.comparisons[0].p_value == 1.0


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


class Page(HTMLParser):
    """Collects what a browser would load, and checks that elements close."""

    VOID = frozenset({"meta", "link"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.addresses: list[str] = []
        self.tags: list[str] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [value or "" for key, value in attrs if key in ("src", "href")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def test_the_page_is_whole_escaped_and_needs_no_network(store: Store) -> None:
    stage = store.stage(whole_recipe(store))
    run(Params(title="Czech <demo>"), stage)
    html = (stage.folder / "report.html").read_text(encoding="utf-8")
    page = Page()
    page.feed(html)
    assert page.open == []
    assert all(address.startswith(("#", "data:")) for address in page.addresses)
    assert "script" not in page.tags
    assert "demo" not in page.tags and "nádraží" not in page.tags
    text = "".join(page.text)
    assert "Czech <demo>" in text
    assert "<nádraží>" in text and "&lt;nádraží&gt;" in html
    for expected in (
        "its training data may hold these clips",
        "37 sentences of its text are in dev or test",
        "beam_lm, 2-best oracle",
        "WER in % on dev by LM weight",
        "Chosen: alpha 0.5, beta 0",
        "hlas run recipes/x.yaml",
        "abc123",
        "too long 10",
        "train was limited to 100 of the 900 clips",
        "test shares with other splits: speaker in dev 2",
        "text rules version 1",
    ):
        assert expected in text, expected
    anchors = {a[1:] for a in page.addresses if a.startswith("#")}
    assert anchors and all(f'id="{anchor}"' in html for anchor in anchors)


def test_the_list_of_utterances_is_capped_and_says_so(store: Store) -> None:
    stage = store.stage(whole_recipe(store))
    run(Params(utterances=3), stage)
    html = (stage.folder / "report.html").read_text(encoding="utf-8")
    assert html.count('<table class="words"') == 3
    assert "3 of the 20 test utterances" in html


def test_markdown_tables_have_as_many_cells_as_columns(store: Store) -> None:
    stage = store.stage(whole_recipe(store))
    run(Params(title="a|b"), stage)
    text = (stage.folder / "report.md").read_text(encoding="utf-8")
    assert text.startswith("# a\\|b\n")
    tables = [block.splitlines() for block in text.split("\n\n") if block.startswith("|")]
    assert len(tables) >= 4
    for table in tables:
        assert len({line.replace("\\|", "").count("|") for line in table}) == 1


def test_the_training_curve_is_drawn_from_the_epochs_that_have_a_dev_wer(store: Store) -> None:
    stage = store.stage(whole_recipe(store))
    run(Params(), stage)
    html = (stage.folder / "report.html").read_text(encoding="utf-8")
    assert "best 70.0\u00a0% at epoch 3" in html


def test_trainings_named_by_curve_are_shown_though_no_system_rests_on_them(store: Store) -> None:
    greedy = store.add("greedy", "decode", files={"test.jsonl": [perfect(r) for r in rows()]})
    epochs = [{"epoch": 0, "dev_wer": 0.8}, {"epoch": 1, "dev_wer": 0.5}]
    other = store.add("other_model", "train", files={"curve.jsonl": epochs}, summary={"parameters": 5})
    stage = store.stage([greedy], curve=[other])
    run(Params(), stage)
    assert "best 50.0\u00a0% at epoch 2" in (stage.folder / "report.html").read_text(encoding="utf-8")
    assert "other_model (train)" in (stage.folder / "report.md").read_text(encoding="utf-8").replace("\\", "")
    assert [s["name"] for s in read_json(stage.folder / "metrics.json")["stages"]] == ["greedy", "other_model"]


def test_facts_make_tables_of_like_records_and_pairs_of_the_rest() -> None:
    data = {
        "counts": {"sentences": 12_345, "in_dev_or_test": 3},
        "splits": {"dev": {"kept": 5, "rejected": {}}, "test": {"kept": 6, "hours": 0.25, "rejected": {"no_audio": 1}}},
        "sources": [{"label": "a.txt", "read": 7}],
        "dev": {"perplexity": None, "nested": {"deep": True}},
        "ngrams": [1, 2],
    }
    found = facts(data)
    assert found.pairs == (
        ("sentences", "12\u202f345"),
        ("in dev or test", "3"),
        ("dev: perplexity", "–"),
        ("dev: nested: deep", "yes"),
        ("ngrams", "1, 2"),
    )
    splits, sources = found.tables
    assert splits.head == ("", "kept", "rejected", "hours")
    assert splits.rows == (("dev", "5", "–", ""), ("test", "6", "no audio 1", "0.25"))
    assert (sources.name, sources.rows) == ("sources", (("1", "a.txt", "7"),))
    assert not facts({})
    assert dict(flat({"model": {"optim": {"lr": 0.01}, "masks": [{"f": 2}]}})) == {
        "model.optim.lr": "0.01",
        "model.masks.0.f": "2",
    }


def test_word_grid_lays_all_systems_on_common_columns() -> None:
    grid = word_grid("a b c", ["a x c", "a b b c d", ""])
    assert grid.reference == ("a", "", "b", "c", "") or grid.reference == ("a", "b", "", "c", "")
    substituted, inserted, deleted = grid.rows
    assert [c.text for c in substituted if c.edit != "none"] == ["a", "x", "c"]
    assert [c.edit for c in substituted if c.edit != "none"] == ["equal", "substitute", "equal"]
    assert [c.text for c in inserted if c.edit == "insert"] == ["b", "d"]
    assert [c for c in deleted if c.edit != "none"] == [Cell("", "delete")] * 3
    assert {len(row) for row in grid.rows} == {len(grid.reference)}


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_score_files(tmp_path: Path) -> None:
    reference = write(tmp_path / "ref.txt", "Dobrý den!\nto nevím\n\n")
    hypothesis = write(tmp_path / "hyp.txt", "dobrý den\n\nslovo\n")
    plain = score_files(reference, hypothesis, None)
    assert plain["wer"] == pytest.approx(4 / 4)
    assert (plain["utterances"], plain["empty_references"]) == (3, 1)
    ruled = score_files(reference, hypothesis, LANGUAGE)
    assert ruled["wer"] == pytest.approx(2 / 4)
    assert ruled["raw_wer"] == plain["wer"]
    assert "WER 50.00 %" in score_text(ruled)
    assert json.loads(score_text(ruled, "json")) == ruled


def test_score_files_refuses_what_cannot_be_paired(tmp_path: Path) -> None:
    reference = write(tmp_path / "ref.txt", "a\nb\nc\n")
    with pytest.raises(UserError, match=r"2 lines, but .*ref\.txt has 3"):
        score_files(reference, write(tmp_path / "hyp.txt", "a\nb\n"), None)
    with pytest.raises(UserError, match="no such file"):
        score_files(reference, tmp_path / "none.txt", None)
    separators_inside_a_line = write(tmp_path / "odd.txt", "a\u2028a\nb\x0c\nc")
    assert score_files(reference, separators_inside_a_line, None)["utterances"] == 3
    with pytest.raises(UserError, match="one of: json, text"):
        score_text(score_files(reference, reference, None), "xml")

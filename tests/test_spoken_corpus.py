"""A corpus of a given text: its sentences, its voice, its release, and what of a text cannot be read aloud."""

import csv
import hashlib
import itertools
import logging
import re
from dataclasses import replace
from pathlib import Path

import pytest
import soundfile

from hlas.corpus.casting import Plan, plan_clips
from hlas.corpus.sentences import make_texts, spelled
from hlas.corpus.stage import DEFECTS, Params, make_spoken, run
from hlas.corpus.text_file import MAX_WORDS, deal_sentences, find_sentences
from hlas.corpus.voices import find_voice, voices
from hlas.errors import UserError, UserErrors
from hlas.manifests import stage as manifests_stage
from hlas.manifests.text import load_language
from hlas.paths import project_root
from hlas.plan import Selection
from hlas.recipe import load_recipe
from hlas.runner import run_recipe
from hlas.stage import Input, Stage

CZECH = [
    f"{who} {does} {what}."
    for who, does, what in itertools.product(
        ("Bratr", "Moje sestra", "Učitel"), ("vidí", "hledá", "kupuje"), ("dům", "žluté kolo", "černou kočku", "měsíc")
    )
]
PARAMS = Params(
    seed=5,
    train_clips=20,
    dev_clips=4,
    test_clips=4,
    train_speakers=5,
    dev_speakers=2,
    test_speakers=2,
    voice="cs",
    defects=False,
)
LOG = logging.getLogger("hlas")
RECIPE = """
name: spoken
stages:
  corpus_cs: {uses: corpus, text: TEXT, voice: cs, lm_sentences: 3, defects: false, train_clips: 5, dev_clips: 1,
              test_clips: 1, train_speakers: 1, dev_speakers: 1, test_speakers: 1}
"""


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("text") / "cs.txt"
    path.write_text("\n".join(CZECH) + "\n", encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def spoken(text: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("spoken")
    make_spoken(folder, PARAMS, text, workers=1)
    return folder


def rows(folder: Path, table: str) -> list[dict[str, str]]:
    with (folder / "release" / f"{table}.tsv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))


def digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def test_the_release_is_of_the_voices_language_and_has_the_texts_sentences(spoken: Path) -> None:
    tables = {split: rows(spoken, split) for split in ("train", "dev", "test")}
    assert {split: len(table) for split, table in tables.items()} == {"train": 20, "dev": 4, "test": 4}
    for row in itertools.chain(*tables.values()):
        assert row["locale"] == "cs"
        assert re.fullmatch(r"common_voice_cs_\d{8}\.mp3", row["path"])
        assert row["sentence"] in CZECH
    lm = (spoken / "lm_text.txt").read_text(encoding="utf-8").splitlines()
    sentences = [row["sentence"] for table in tables.values() for row in table] + lm
    assert sorted(sentences) == sorted(CZECH)  # each once: no sentence in two splits, the rest for the LM
    speakers = [{row["client_id"] for row in table} for table in tables.values()]
    assert [len(s) for s in speakers] == [5, 2, 2]
    assert len(set.union(*speakers)) == 9


def test_every_clip_is_speech_of_a_plausible_length(spoken: Path) -> None:
    for row in itertools.chain(rows(spoken, "train"), rows(spoken, "dev"), rows(spoken, "test")):
        samples, rate = soundfile.read(spoken / "release" / "clips" / row["path"])
        letters_per_s = len("".join(spelled(row["sentence"]))) / (samples.size / rate)
        assert 4 < letters_per_s < 20, row
        assert samples.std() > 0.01  # full scale is 1


def test_the_manifests_stage_accepts_every_clip_under_the_languages_rules(spoken: Path, tmp_path: Path) -> None:
    language = load_language(project_root() / "manifests/languages/cs.yaml")
    inputs = {"release": (Input(spoken / "release"),)}
    stage = Stage("manifests_cs", "manifests", tmp_path, inputs, language, LOG, workers=1)
    counts = manifests_stage.run(manifests_stage.Params(), stage)["splits"]
    assert {split: n["kept"] for split, n in counts.items()} == {"train": 20, "dev": 4, "test": 4}


def test_the_same_seed_makes_the_same_bytes_with_two_processes(spoken: Path, text: Path, tmp_path: Path) -> None:
    make_spoken(tmp_path, PARAMS, text, workers=2)  # 28 clips: two chunks of work
    assert digests(tmp_path) == digests(spoken)


def test_voices_of_other_languages_read_the_same_text_otherwise(spoken: Path, text: Path, tmp_path: Path) -> None:
    make_spoken(tmp_path, replace(PARAMS, voice="pl", train_clips=6), text, workers=1)
    (first, *_), (other, *_) = rows(spoken, "test"), rows(tmp_path, "test")
    assert first["sentence"] == other["sentence"]  # dev and test do not depend on the size of train
    assert other["path"] == first["path"].replace("_cs_", "_pl_")
    clips = [folder / "release" / "clips" / row["path"] for folder, row in ((spoken, first), (tmp_path, other))]
    assert clips[0].read_bytes() != clips[1].read_bytes()


def test_every_voice_has_its_dictionary_and_a_language() -> None:
    known = voices()
    assert {"cs", "pl", "sk", "ru", "uk", "de", "en", "en-us", "pt-br", "cmn"} <= known.keys()
    assert [known[name].language for name in ("cs", "en-us", "pt-br")] == ["cs", "en", "pt"]
    assert find_voice("ru").dictionary == "ru_dict"


@pytest.mark.parametrize(
    ("wrong", "meant"), [("cz", "cs"), ("czech", "cs"), ("Polish", "pl"), ("en_us", "en-us"), ("ru-ru", "ru")]
)
def test_a_voice_that_is_none_is_answered_with_the_nearest_few(wrong: str, meant: str) -> None:
    with pytest.raises(UserError, match=f"no voice '{wrong}'") as raised:
        find_voice(wrong)
    nearest = re.findall(r"(?:: |, )([\w-]+) \(", raised.value.fix)
    assert len(nearest) <= 8
    assert meant in nearest
    if wrong.lower() in ("czech", "polish", "en_us"):
        assert nearest[0] == meant


def test_what_cannot_be_read_aloud_is_counted(tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    long = " ".join(["slovo"] * (MAX_WORDS + 1))
    lines = ["Dobrý den.", "dobrý den", "", "…", "Je 12 hodin.", long, "Jedna\tdvě   tři.\r", "„Ahoj!“"]
    path.write_bytes(b"\xef\xbb\xbf" + "\n".join(lines).encode() + b"\nb\xe1d\n")
    found = find_sentences(path)
    assert found.usable == ["Dobrý den.", "Jedna dvě tři.", "„Ahoj!“"]
    assert found.dropped == {"repeated": 1, "no_words": 2, "digits": 1, "too_long": 1, "not_utf8": 1}
    assert found.read == 9
    with pytest.raises(UserError, match=r"3 of 9 sentences .*digits 1.* 4 are needed"):
        deal_sentences(found, path, 1, {"train": 2, "dev": 1, "test": 1, "lm": 0})


def test_a_text_needs_a_voice_and_a_voice_a_text(text: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="a text without a voice"):
        run(replace(PARAMS, voice=""), Stage("c", "corpus", tmp_path, {"text": (Input(text),)}, None, LOG, 1))
    with pytest.raises(UserError, match="without a text"):
        run(PARAMS, Stage("c", "corpus", tmp_path, {}, None, LOG, 1))
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_voice_is_named_with_its_line_and_the_nearest_one(tmp_path: Path, text: Path) -> None:
    recipe = tmp_path / "spoken.yaml"
    recipe.write_text(RECIPE.replace("TEXT", str(text)).replace("voice: cs", "voice: en_us"), encoding="utf-8")
    with pytest.raises(UserErrors) as raised:
        load_recipe(recipe)
    (error,) = raised.value.errors
    assert error.problem.startswith("corpus_cs: espeak-ng has no voice 'en_us'; of ")
    assert "the nearest are: en-us (English (America)), " in error.problem
    assert error.where.endswith("spoken.yaml:4")


def test_a_recipe_speaks_a_text_and_names_one_that_is_missing(tmp_path: Path, text: Path) -> None:
    recipe = tmp_path / "spoken.yaml"
    recipe.write_text(RECIPE.replace("TEXT", str(text)), encoding="utf-8")
    (planned,) = run_recipe(load_recipe(recipe), tmp_path / "runs", Selection(), workers=1)
    assert len((planned.folder / "lm_text.txt").read_text(encoding="utf-8").splitlines()) == 3
    recipe.write_text(RECIPE.replace("TEXT", "./no/such/text.txt"), encoding="utf-8")
    with pytest.raises(UserError, match=r"no such text file, one sentence a line: no/such/text\.txt"):
        run_recipe(load_recipe(recipe), tmp_path / "runs", Selection(), workers=1)


def test_the_grammars_corpus_is_read_as_ever() -> None:
    """Voices of other languages must not change the demo, whose numbers are published."""
    texts = make_texts(1, {"train": 30, "dev": 4, "test": 6, "lm": 0})
    clips = plan_clips(Plan(1, {"train": 6, "dev": 2, "test": 3}, (20.0, 40.0), (-30.0, -18.0)), texts, DEFECTS)
    plan = "\n".join(f"{c.number} {c.tables} {c.speaker} {c.age} {c.sentence} {c.recording} {c.damage}" for c in clips)
    assert hashlib.sha256(plan.encode()).hexdigest()[:16] == "7ec6498e48b20c8b"
    speaker = clips[0].speaker
    assert (speaker.accent, speaker.gender, speaker.pitch_hz, speaker.rate_wpm) == ("en-us", "male", 108.8, 164)
    assert clips[0].path == "common_voice_en_10000001.mp3"

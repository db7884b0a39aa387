"""The demo corpus: its sentences, its voices, its release folder."""

import csv
import hashlib
import io
import itertools
import random
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hlas.corpus.casting import ENGLISH_IN_TURN, SPLITS, Plan, make_readers, plan_clips
from hlas.corpus.grammar import CLASSES, ODD_SENTENCES, PHRASES, TOPICS
from hlas.corpus.release import COLUMNS, TABLES, encode_mp3
from hlas.corpus.sentences import MAX_WORDS, MIN_WORDS, make_texts, spelled
from hlas.corpus.speech import SAMPLE_RATE_HZ, Recording, Speaker, record, speak, variant, write_voices
from hlas.corpus.stage import DEFECTS, Params, make_demo
from hlas.errors import UserError

TINY = Params(
    seed=3,
    train_clips=10,
    dev_clips=2,
    test_clips=3,
    train_speakers=4,
    dev_speakers=2,
    test_speakers=2,
    lm_sentences=20,
)
MAN = Speaker("m1", "en-us", "male", 90, 1.3, 1.0, 1.0, 155)
WOMAN = Speaker("f1", "en", "female", 160, 1.4, 1.06, 0.9, 165)


@pytest.fixture(scope="module")
def texts():
    return make_texts(1, {"train": 800, "dev": 80, "test": 100, "lm": 4000})


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo")
    return folder, make_demo(folder, TINY, workers=1)


@pytest.fixture(scope="module")
def voices(tmp_path_factory):
    folder = tmp_path_factory.mktemp("voices")
    write_voices(folder, (MAN, WOMAN))
    return folder


def table(folder: Path, name: str) -> list[dict[str, str]]:
    with (folder / "release" / f"{name}.tsv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))


def words(sentences) -> list[str]:
    return [word for sentence in sentences for word in spelled(sentence)]


def test_every_name_in_a_pattern_is_a_class_or_a_phrase_and_every_one_is_used():
    used = {n for group in (PHRASES, TOPICS) for choices in group.values() for n in re.findall(r"@(\w+)", str(choices))}
    assert used == CLASSES.keys() | PHRASES.keys()
    assert not CLASSES.keys() & PHRASES.keys()


def test_words_are_spelled_in_the_plain_alphabet():
    assert len(CLASSES) > 50
    for name, members in CLASSES.items():
        assert all(re.fullmatch(r"[A-Za-z]+", word) for word in members), name
        assert len(members) >= 4, name


def test_sentences_are_capitalised_closed_and_of_the_promised_length(texts):
    for sentence in itertools.chain(texts.dev, texts.test, texts.lm):
        assert re.fullmatch(r"[A-Z][A-Za-z' ,]*[.?!]", sentence), sentence
        assert MIN_WORDS <= len(spelled(sentence)) <= MAX_WORDS
        assert not re.search(r"\ba [aeio]|\ban [^aeiouh]|\bi\b", sentence), sentence


def test_no_sentence_stands_twice_or_in_two_splits(texts):
    for split in (texts.train, texts.dev, texts.test, texts.lm):
        assert len({spelled(s) for s in split}) == len(split)
    splits = [{spelled(s) for s in split} for split in (texts.train, texts.dev, texts.test, texts.lm)]
    for a, b in itertools.combinations(splits, 2):
        assert not a & b


def test_the_vocabulary_is_large_and_test_has_words_that_training_never_shows(texts):
    assert len(set(words(texts.train))) >= 800
    known = set(words(texts.train)) | set(words(texts.lm))
    assert not known & {word.lower() for word in texts.held_out}
    for split in (texts.dev, texts.test):
        unknown = [word for word in words(split) if word not in known]
        assert 0.02 <= len(unknown) / len(words(split)) <= 0.04


def test_train_has_the_odd_sentences_and_dev_and_test_have_none(texts):
    assert set(ODD_SENTENCES) <= set(texts.train)
    assert not set(ODD_SENTENCES) & {*texts.dev, *texts.test, *texts.lm}


def test_the_sentences_of_dev_and_test_do_not_depend_on_the_size_of_train(texts):
    small = make_texts(1, {"train": 5, "dev": 80, "test": 100, "lm": 0})
    assert (small.dev, small.test) == (texts.dev, texts.test)
    assert make_texts(2, {"train": 5, "dev": 80, "test": 100, "lm": 0}).test != texts.test


def test_spelled_keeps_apostrophes_inside_words_and_foreign_letters():
    assert spelled("“Don’t stop,” said José's 7 dogs' owner…") == (
        "don't",
        "stop",
        "said",
        "josé's",
        "7",
        "dogs",
        "owner",
    )


def test_what_was_said_before_does_not_change_the_samples(voices):
    text = "The small boat drifted along the river."
    first = speak(voices, MAN, text)
    speak(voices, WOMAN, "Something else, and not short either!")
    assert np.array_equal(speak(voices, MAN, text), first)
    assert not np.array_equal(speak(voices, WOMAN, text)[: first.size], first)
    assert 1.0 < first.size / SAMPLE_RATE_HZ < 5.0


def test_a_faster_speaker_takes_less_time(voices, tmp_path):
    fast = Speaker("fast", "en-us", "male", 90, 1.3, 1.0, 1.0, 300)
    write_voices(tmp_path, (fast,))
    assert speak(tmp_path, fast, "He ran home.").size < 0.8 * speak(voices, MAN, "He ran home.").size


def test_a_voice_that_was_not_written_is_an_error(voices, tmp_path):
    with pytest.raises(UserError, match="cannot read its data"):
        speak(tmp_path, MAN, "Hello.")


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"rate_wpm": 20}, "rate_wpm 20"),
        ({"accent": "xx"}, "no voice 'xx'"),
        ({"name": "../m1"}, "the name"),
        ({"formants": float("nan")}, "formants nan"),
    ],
)
def test_impossible_speakers_are_refused(change, problem):
    values = dict(zip(Speaker.__slots__, ("m1", "en-us", "male", 90, 1.3, 1.0, 1.0, 155), strict=True))
    with pytest.raises(UserError, match=problem):
        Speaker(**(values | change))


def test_variant_files_carry_no_clock_seeded_noise():
    assert not re.search("breath|echo", variant(WOMAN))
    assert "formant 3 106 90 100\n" in variant(WOMAN)
    assert "pitch 160 224\n" in variant(WOMAN)


@settings(max_examples=30, deadline=None)
@given(
    noise=st.sampled_from(["white", "pink"]),
    snr_db=st.floats(10, 40),
    level_dbfs=st.floats(-35, -12),
    size=st.integers(3000, 9000),
)
def test_recordings_have_the_asked_level_and_noise(noise, snr_db, level_dbfs, size):
    speech = np.round(8000 * np.sin(np.arange(size) / 7)).astype(np.int16)
    samples = record(speech, Recording(noise, snr_db, level_dbfs, 0.5, 0.25, (1, 2))) / 32767
    lead, trail = SAMPLE_RATE_HZ // 2, round(0.25 * SAMPLE_RATE_HZ)
    assert samples.size == size + lead + trail
    quiet = np.concatenate([samples[:lead], samples[-trail:]])
    loud = samples[lead:-trail]
    assert 10 * np.log10(np.mean(loud**2)) == pytest.approx(level_dbfs, abs=1.0)
    assert 10 * np.log10(np.mean(quiet**2)) == pytest.approx(level_dbfs - snr_db, abs=2.5)


def test_a_recording_never_clips():
    speech = np.zeros(4000, np.int16)
    speech[2000] = 32767  # all its power in one sample
    samples = record(speech, Recording("white", 30, -3.0, 0.1, 0.1, (1,)))
    assert 30000 < np.max(np.abs(samples.astype(int))) < 32767
    with pytest.raises(ValueError, match="no speech"):
        record(np.zeros(100, np.int16), Recording("white", 30, -20, 0, 0, (1,)))


def test_pink_noise_has_more_power_below_than_above():
    speech = np.ones(2, np.int16)
    for colour, low, high in (("white", 0.5, 2.0), ("pink", 5.0, 100.0)):
        noise = record(speech, Recording(colour, 20, -30, 1.0, 1.0, (7,)))[:SAMPLE_RATE_HZ].astype(float)
        power = np.abs(np.fft.rfft(noise)) ** 2  # one bin a hertz
        assert low < power[100:1000].mean() / power[5000:10000].mean() < high


def test_the_mp3_file_is_as_long_as_the_samples_and_always_the_same():
    import soundfile

    samples = (3000 * np.sin(np.arange(30_001) / 9)).astype(np.int16)
    data = encode_mp3(samples)
    assert data == encode_mp3(samples)
    decoded, rate = soundfile.read(io.BytesIO(data))
    assert (decoded.shape, rate) == ((30_001,), SAMPLE_RATE_HZ)
    assert np.corrcoef(decoded, samples)[0, 1] > 0.99


def test_speakers_are_distinct_half_women_and_of_each_accent():
    speakers = [r.speaker for split in SPLITS for r in make_readers(split, 10, random.Random(split), ENGLISH_IN_TURN)]
    assert len({(s.pitch_hz, s.formants, s.rate_wpm) for s in speakers}) == len({s.name for s in speakers}) == 30
    assert sum(s.gender == "female" for s in speakers) == 15
    assert {s.accent for s in speakers} == {"en-us", "en"}


def test_the_clips_of_test_stay_the_same_when_train_grows(texts):
    speakers = {"train": 4, "dev": 2, "test": 2}
    plan = Plan(1, speakers, (20, 30), (-25, -20))
    clips = plan_clips(plan, texts, ())
    fewer = plan_clips(plan, make_texts(1, {"train": 5, "dev": 80, "test": 100, "lm": 0}), DEFECTS)
    assert clips[:180] == fewer[:180]
    assert [clip.tables[0] for clip in clips[:181]] == ["test"] * 100 + ["dev"] * 80 + ["train"]


def test_held_out_words_fall_to_every_speaker_of_test(texts):
    clips = plan_clips(Plan(1, {"train": 4, "dev": 8, "test": 10}, (20, 30), (-25, -20)), texts, ())[:100]
    held_out = {word.lower() for word in texts.held_out}
    hard = {clip.speaker.name for clip in clips if held_out & set(spelled(clip.sentence))}
    assert hard == {clip.speaker.name for clip in clips} and len(hard) == 10


def test_the_tables_are_those_of_common_voice(demo):
    folder, summary = demo
    for name in TABLES:
        rows = table(folder, name)
        assert rows, name
        assert tuple(rows[0]) == COLUMNS
        assert {row["locale"] for row in rows} == {"en"}
        assert all(re.fullmatch(r"common_voice_en_\d{8}\.mp3", row["path"]) for row in rows)
        assert all(len(row["client_id"]) == 128 and len(row["sentence_id"]) == 64 for row in rows)
    assert [len(table(folder, name)) for name in ("train", "dev", "test")] == [10, 2, 3]
    paths = {row["path"] for name in TABLES for row in table(folder, name)}
    durations = table(folder, "clip_durations")
    assert {row["clip"] for row in durations} == paths
    assert summary["counts"]["clips"] == len(durations) == len(paths)
    in_splits = {row["path"] for name in ("train", "dev", "test") for row in table(folder, name)}
    assert in_splits < {row["path"] for row in table(folder, "validated")}
    assert [row["reason"] for row in table(folder, "reported")]


def test_no_speaker_is_in_two_splits_of_the_tables(demo):
    folder, summary = demo
    speakers = {name: {row["client_id"] for row in table(folder, name)} for name in ("train", "dev", "test")}
    assert {name: len(s) for name, s in speakers.items()} == {"train": 4, "dev": 2, "test": 2}
    assert {name: s["speakers"] for name, s in summary["splits"].items()} == {"train": 4, "dev": 2, "test": 2}
    assert not speakers["train"] & speakers["dev"] | speakers["test"] & (speakers["train"] | speakers["dev"])


def test_the_defects_are_there_and_only_in_train(demo):
    import soundfile

    folder, summary = demo
    assert tuple(summary["defects"]) == DEFECTS
    clips = folder / "release" / "clips"
    stated = {row["clip"]: int(row["duration[ms]"]) for row in table(folder, "clip_durations")}
    seen = []
    for name in TABLES[:3]:
        for row in table(folder, name):
            path = clips / row["path"]
            if row["sentence"].count('"') == 1:
                seen.append((name, "lone_quote"))
            if not row["sentence"]:
                seen.append((name, "empty_sentence"))
            if not path.exists():
                seen.append((name, "missing"))
            elif not path.stat().st_size:
                seen.append((name, "empty_file"))
            else:
                samples, rate = soundfile.read(path)
                if samples.size / rate < 0.9 * stated[row["path"]] / 1000:
                    seen.append((name, "truncated"))
                else:
                    assert 1000 * samples.size / rate == pytest.approx(stated[row["path"]], abs=1)
                    assert np.max(np.abs(samples)) < 1.0
    assert sorted(seen) == sorted(("train", defect) for defect in DEFECTS)
    assert table(folder, "train")[0]["sentence"].startswith('"')  # the row that a quoting reader would choke on


def test_without_defects_every_clip_is_whole(tmp_path):
    params = Params(4, 3, 1, 1, 1, 1, 1, lm_sentences=0, defects=False)
    summary = make_demo(tmp_path, params, workers=1)
    assert summary["defects"] == []
    assert (tmp_path / "lm_text.txt").read_text() == ""
    assert len(list((tmp_path / "release" / "clips").iterdir())) == summary["counts"]["clips"] == 5
    assert all(path.stat().st_size for path in (tmp_path / "release" / "clips").iterdir())


def test_the_lm_text_is_one_sentence_a_line_and_none_is_spoken(demo):
    folder, _ = demo
    lines = (folder / "lm_text.txt").read_text(encoding="utf-8").splitlines()
    assert len(lines) == TINY.lm_sentences
    assert not {spelled(line) for line in lines} & {spelled(row["sentence"]) for row in table(folder, "validated")}


def test_the_same_seed_makes_the_same_bytes_with_any_number_of_processes(demo, tmp_path):
    folder, summary = demo

    def digest(root: Path) -> dict[str, str]:
        files = sorted(path for path in root.rglob("*") if path.is_file())
        return {str(p.relative_to(root)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}

    assert make_demo(tmp_path, TINY, workers=2) == summary
    assert digest(tmp_path) == digest(folder)


def test_a_folder_that_has_a_release_is_left_alone(demo):
    folder, _ = demo
    with pytest.raises(UserError, match="something already"):
        make_demo(folder, TINY, workers=1)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"test_speakers": 0}, "test_speakers"),
        ({"dev_speakers": 3}, "dev_speakers"),
        ({"snr_db": (30.0, 20.0)}, "lowest"),
        ({"level_dbfs": (-10.0, 3.0)}, "above 0"),
        ({"lm_sentences": -1}, "lm_sentences"),
        ({"train_clips": 4}, "defects need"),
    ],
)
def test_impossible_parameters_are_refused(change, problem):
    with pytest.raises(ValueError, match=problem):
        replace(TINY, **change)

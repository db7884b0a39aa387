"""What `hlas transcribe` writes: captions by the standards, names that never collide, long audio, no lost word."""

import csv
import io
import json
import logging
from dataclasses import replace
from itertools import pairwise
from pathlib import Path, PurePosixPath

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from hlas.decode.greedy import collapse
from hlas.decode.logprobs import Vocabulary
from hlas.decode.search import SearchOptions
from hlas.decode.tune import Weights
from hlas.errors import UserError, UserErrors
from hlas.lm.ngram import LmFiles, find_lm
from hlas.models.ctc_long import LongCtc, beam_search, cut_at_quiet, greedy_search, timed_words
from hlas.models.recognise import _lm_search, find_audio, load_recogniser, transcribe_paths
from hlas.models.subtitles import CAPTION_S, LINE_CHARS, LINES, captions, clock, group_words, srt, vtt
from hlas.models.transcript_files import Named, as_csv, as_json, output_names, write_each, write_together
from hlas.models.transcripts import DOUBTS, Decoding, Segment, Transcript
from hlas.models.whisper_asr import Whisper
from hlas.models.whisper_options import WhisperOptions
from hlas.store import Record, Source, write_record

pytest_plugins = ("whisper_kit",)
GOLDEN = (
    Segment(0.0, 1.5, "Rock & roll <live>"),
    Segment(3661.0, 3663.9996, "one --> two"),
    Segment(3664.0, 3664.1, "short"),
    Segment(3664.6, 3668.6, "žadyn strach před žanej pjerowanej nocu a dołhimi linkami"),
)
DOUBTFUL = Decoding(1.0, -2.0, 3.0, 0.1, ("repetitive", "improbable"))


def test_srt_golden():
    assert srt(GOLDEN) == (
        "1\n00:00:00,000 --> 00:00:01,500\nRock & roll <live>\n\n"
        "2\n01:01:01,000 --> 01:01:04,000\none -> two\n\n"
        "3\n01:01:04,000 --> 01:01:04,600\nshort\n\n"
        "4\n01:01:04,600 --> 01:01:08,600\nžadyn strach před žanej pjerowanej nocu a\ndołhimi linkami\n"
    )


def test_vtt_golden():
    assert vtt(GOLDEN[:2]) == (
        "WEBVTT\n\n"
        "00:00:00.000 --> 00:00:01.500\nRock &amp; roll &lt;live&gt;\n\n"
        "01:01:01.000 --> 01:01:04.000\none --&gt; two\n"
    )
    assert vtt(()) == "WEBVTT\n"
    assert srt(()) == ""


def test_the_clock_carries_rounded_milliseconds():
    assert clock(59.9996, ",") == "00:01:00,000"
    assert clock(360_000, ".") == "100:00:00.000"


words = st.lists(st.text("abcž<&", min_size=1, max_size=12), min_size=1, max_size=60)


@given(st.lists(st.tuples(words, st.floats(0.0, 30.0), st.floats(0.0, 3.0)), max_size=5))
def test_captions_keep_every_word_within_the_limits(spoken):
    segments, now = [], 0.0
    for texts, length_s, pause_s in spoken:
        segments.append(Segment(now, now + length_s, " ".join(texts)))
        now += length_s + pause_s
    found = captions(segments)
    assert " ".join(c.text for c in found).split() == [w for texts, _, _ in spoken for w in texts]
    for caption in found:
        assert all(len(line) <= LINE_CHARS for line in caption.text.split("\n"))
        assert caption.text.count("\n") < LINES
        assert caption.end_s - caption.start_s <= CAPTION_S + 1e-6 or " " not in caption.text
    assert all(a.end_s <= b.start_s + 1e-6 for a, b in pairwise(found) if b.start_s > a.start_s)


def test_words_become_captions_at_pauses():
    spoken = [Segment(0.0, 0.3, "dobry"), Segment(0.5, 0.9, "dźeń"), Segment(2.4, 2.8, "witajće")]
    assert group_words(spoken) == [Segment(0.0, 0.9, "dobry dźeń"), Segment(2.4, 2.8, "witajće")]


def test_times_of_words_on_a_greedy_path():
    vocabulary = Vocabulary(("a", "b", " "), "char", 0.04)
    # blank a a blank b | space | b b
    path = np.array([3, 0, 0, 3, 1, 2, 1, 1])
    found = [(w.text, round(w.start_s, 2), round(w.end_s, 2)) for w in timed_words(path, vocabulary)]
    assert found == [("ab", 0.04, 0.2), ("b", 0.24, 0.32)]


@given(st.lists(st.integers(0, 4), max_size=30), st.sampled_from(["char", "bpe"]))
def test_timed_words_spell_the_greedy_text(path, unit):
    tokens = ("a", "b", " ", "'") if unit == "char" else ("▁a", "b", "▁", "a▁b")
    vocabulary = Vocabulary(tokens, unit, 0.02)
    labels = np.array(path, dtype=np.int64)
    found = list(timed_words(labels, vocabulary))
    assert " ".join(w.text for w in found) == vocabulary.text(collapse(labels, vocabulary.blank).tolist())
    assert all(0 <= w.start_s < w.end_s <= 0.02 * len(path) + 1e-9 for w in found)


def test_long_audio_is_cut_where_it_is_quiet():
    rate = 1000
    audio = np.ones(47 * rate, dtype=np.float32)
    audio[int(17.3 * rate) : int(17.7 * rate)] = 0.0
    pieces = cut_at_quiet(audio, rate)
    assert pieces[0].start == 0 and pieces[-1].stop == len(audio)
    assert all(a.stop == b.start for a, b in pairwise(pieces))
    assert all(p.stop - p.start <= 20 * rate for p in pieces)
    assert 17.3 * rate <= pieces[0].stop <= 17.7 * rate
    assert cut_at_quiet(audio[: 20 * rate], rate) == [slice(0, 20 * rate)]


class ToneModel:
    """Hears tones: label i where the spectrum's peak is at 500 (i + 1) Hz, blank in silence; frames of 40 ms."""

    vocabulary = Vocabulary(("a", "b", "c", " "), "char", 0.04)
    sample_rate_hz = 16000

    def log_probs(self, audio):
        return [self._hear(samples) for samples in audio]

    def _hear(self, samples):
        frames = samples[: len(samples) // 640 * 640].reshape(-1, 640)
        spectrum = np.abs(np.fft.rfft(frames, axis=1))
        labels = np.rint(spectrum.argmax(axis=1) * 25 / 500).astype(int) - 1
        labels[spectrum.max(axis=1) < 1.0] = 4
        return np.log(np.eye(5)[labels] * 0.99 + 0.002)


LETTER_S, GAP_S = 0.2, 0.08


def tones(text):
    """A tone a letter with a gap after it; a space is the fourth tone between silences as long."""
    out = []
    for letter in text:
        time_s = np.arange(int(LETTER_S * 16000)) / 16000
        tone = 0.3 * np.sin(2 * np.pi * 500 * ("abc ".index(letter) + 1) * time_s)
        silence = np.zeros(int((LETTER_S if letter == " " else GAP_S) * 16000))
        out += [silence, tone, silence] if letter == " " else [tone, silence]
    return np.concatenate(out).astype(np.float32)


def test_a_recording_longer_than_a_piece_keeps_its_words_and_their_times():
    spoken = ["abc", "cab", "ba", "cc"] * 16
    audio = tones(" ".join(spoken))
    assert len(audio) > 60 * 16000
    heard = LongCtc(ToneModel(), greedy_search(ToneModel.vocabulary)).transcribe(audio)
    assert heard.text == " ".join(spoken)
    assert heard.duration_s == pytest.approx(len(audio) / 16000)
    done = 0
    for segment in heard.segments:
        before = " ".join([*spoken[:done], ""]) if done else ""
        assert segment.start_s == pytest.approx(len(tones(before)) / 16000 if before else 0.0, abs=0.09)
        done += len(segment.text.split())
        assert segment.end_s == pytest.approx(len(tones(" ".join(spoken[:done]))) / 16000 - GAP_S, abs=0.09)


ARPA = """\\data\\
ngram 1=7
ngram 2=1

\\1-grams:
-2\t<unk>\t0
0\t<s>\t0
-1\t</s>\t0
-0.8\tabc\t-0.1
-0.8\tcab\t0
-0.8\tba\t0
-0.8\tcc\t0

\\2-grams:
-0.3\tabc cab

\\end\\
"""


@pytest.fixture
def lm_folder(tmp_path):
    folder = tmp_path / "lm-abc"
    folder.mkdir()
    (folder / "lm.arpa").write_text(ARPA)
    (folder / "unigrams.txt").write_text("abc\nba\ncab\ncc\n")
    return folder


def test_the_beam_search_hears_the_same_words_at_about_the_same_times(lm_folder):
    audio, vocabulary = tones("abc cab ba cc"), ToneModel.vocabulary
    lm, options, weights = _lm_search(lm_folder)
    (frames,) = ToneModel().log_probs([audio])
    beam, greedy = beam_search(vocabulary, lm, options, weights)(frames), greedy_search(vocabulary)(frames)
    assert [w.text for w in beam] == [w.text for w in greedy] == ["abc", "cab", "ba", "cc"]
    for a, b in zip(beam, greedy, strict=True):
        assert (a.start_s, a.end_s) == pytest.approx((b.start_s, b.end_s), abs=0.13)
    assert beam_search(vocabulary, lm, options, weights)(frames[:0]) == []


def test_an_lm_of_another_alphabet_is_refused(lm_folder):
    with pytest.raises(UserError, match="spell none"):
        beam_search(Vocabulary(("x", "y"), "char", 0.02), *_lm_search(lm_folder))


def test_a_decode_stage_gives_its_lm_and_how_it_searched(lm_folder):
    assert _lm_search(lm_folder / "lm.arpa")[0] == LmFiles(lm_folder / "lm.arpa", lm_folder / "unigrams.txt")
    decode = lm_folder.parent / "decode-abc"
    decode.mkdir()
    params = {"width": 7, "beam_prune_logp": -3.0, "token_min_logp": -4.0, "unk_score_offset": -5.0}
    record = Record(
        name="beam_lm",
        kind="decode",
        version=1,
        fingerprint="abc",
        ingredients={},
        params=params,
        inputs={"lm": (Source("lm", "", lm_folder.name, ""),)},
        summary={"alpha": 0.7, "beta": 2.0},
        seconds=1.0,
        finished="2026-01-01T00:00:00+00:00",
        environment={},
    )
    write_record(decode, record)
    lm, options, weights = _lm_search(decode)
    assert lm == find_lm(lm_folder)
    assert options == SearchOptions(7, -3.0, -4.0, -5.0)
    assert weights == Weights(0.7, 2.0)
    write_record(decode, replace(record, inputs={}))
    with pytest.raises(UserError, match="read no lm stage"):
        _lm_search(decode)


def test_nothing_to_hear_is_no_text():
    recogniser = LongCtc(ToneModel(), greedy_search(ToneModel.vocabulary))
    for samples in (0, 100, 48000):
        heard = recogniser.transcribe(np.zeros(samples, dtype=np.float32))
        assert (heard.text, heard.segments) == ("", ())


def test_outputs_never_share_a_name():
    files = [PurePosixPath(p) for p in ("a/x.wav", "b/x.wav", "b/x.mp3", "y.wav", "X.flac", "b-x.wav", "y.b.wav")]
    assert output_names(files) == ["a/x", "b/x.wav", "b/x.mp3", "y", "X", "b-x", "y.b"]
    twice = [PurePosixPath("x.wav"), PurePosixPath("x.wav"), PurePosixPath("x.wav-2.wav")]
    assert len({name.casefold() for name in output_names(twice)}) == 3


@given(
    st.lists(st.sampled_from(["a.wav", "A.wav", "a.mp3", "d/a.wav", "d/a.mp3", "a.wav-2.wav", "a-2.wav"]), max_size=9)
)
def test_outputs_never_share_a_name_whatever_the_files(files):
    names = output_names([PurePosixPath(file) for file in files])
    assert len({name.casefold() for name in names}) == len(files)


def test_tables_and_texts(tmp_path):
    items = [
        Named("in/a.wav", Transcript((Segment(0.0, 1.0, "Ha, “ja”"), Segment(1.5, 2.0, 'a "b"')), 2.5, "cs")),
        Named("in/b.wav", Transcript((), 1.0)),
        Named("in/c.wav", Transcript((), 2.0, "cs", (DOUBTFUL,))),
    ]
    assert json.loads(as_json(items)) == [
        {
            "file": "in/a.wav",
            "duration": 2.5,
            "language": "cs",
            "text": 'Ha, “ja” a "b"',
            "doubts": [],
            "segments": [{"start": 0.0, "end": 1.0, "text": "Ha, “ja”"}, {"start": 1.5, "end": 2.0, "text": 'a "b"'}],
        },
        {"file": "in/b.wav", "duration": 1.0, "text": "", "doubts": [], "segments": []},
        {
            "file": "in/c.wav",
            "duration": 2.0,
            "language": "cs",
            "text": "",
            "doubts": ["repetitive", "improbable"],
            "segments": [],
        },
    ]
    assert list(csv.reader(io.StringIO(as_csv(items)))) == [
        ["file", "duration", "text", "doubts"],
        ["in/a.wav", "2.5", 'Ha, “ja” a "b"', ""],
        ["in/b.wav", "1.0", "", ""],
        ["in/c.wav", "2.0", "", "repetitive improbable"],
    ]
    formats = ("txt", "srt", "vtt", "json", "csv")
    for item, name in zip(items[:2], ("a", "d/b"), strict=True):
        write_each(tmp_path, name, formats, item.transcript)
    write_together(tmp_path, formats, items)
    written = {str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file()}
    assert written == {
        *(f"{name}.{ext}" for name in ("a", "d/b") for ext in ("txt", "srt", "vtt")),
        "transcripts.json",
        "transcripts.csv",
    }
    assert (tmp_path / "a.txt").read_text(encoding="utf-8") == 'Ha, “ja” a "b"\n'


@pytest.fixture
def recordings(tmp_path):
    folder = tmp_path / "in"
    (folder / "sub").mkdir(parents=True)
    soundfile.write(folder / "one.wav", np.zeros(8000), 16000)
    soundfile.write(folder / "sub" / "two.FLAC", np.zeros(8000), 8000, format="FLAC")
    (folder / "sub" / "three.m4a").write_bytes(b"\0\0\0\x20ftypM4A ")
    (folder / "notes.txt").write_text("no audio")
    return folder


@pytest.mark.parametrize(("loudness", "doubt"), [(0.1, "improbable"), (0.0, "silence")])
def test_a_doubted_text_is_told_and_written(tiny, tmp_path, monkeypatch, caplog, loudness, doubt):
    """Noise, whose texts are all improbable by the limit that is set; digital silence, which the VAD cuts out."""
    soundfile.write(tmp_path / "a.wav", loudness * np.random.default_rng(0).standard_normal(16000), 16000)
    options = WhisperOptions(
        device="cpu",
        beam_size=1,
        temperatures=(0.0,),
        compression_ratio_threshold=999,
        log_prob_threshold=-0.001,
        no_speech_threshold=1.0,
        vad_filter=not loudness,
    )
    model = Whisper(tiny, options, "cs", 1)
    monkeypatch.setattr("hlas.models.recognise.load_recogniser", lambda *_: model)
    with caplog.at_level(logging.WARNING, "hlas"):
        assert transcribe_paths([tmp_path], "whisper", None, ("json",), tmp_path / "out") == 0
    (found,) = json.loads((tmp_path / "out" / "transcripts.json").read_text(encoding="utf-8"))
    assert (found["doubts"], bool(found["text"])) == ([doubt], doubt != "silence")
    assert [record.getMessage() for record in caplog.records] == [f"{tmp_path / 'a.wav'}: {DOUBTS[doubt]}"]


def test_folders_are_searched_and_files_named_twice_are_taken_once(recordings):
    found = find_audio([recordings, recordings / "one.wav"])
    assert [str(f.below) for f in found] == ["one.wav", "sub/three.m4a", "sub/two.FLAC"]


def test_every_missing_path_is_named(recordings):
    (recordings / "empty").mkdir()
    with pytest.raises(UserErrors) as caught:
        find_audio([recordings / "nope.wav", recordings / "empty", recordings / "one.wav"])
    assert [Path(error.where).name for error in caught.value.errors] == ["nope.wav", "empty"]


@pytest.mark.parametrize(
    ("formats", "out", "said"),
    [
        (("txt", "docx"), "out", "docx"),
        (("txt", "json"), None, "--out"),
        (("srt",), None, "--out"),
        (("",), None, "no format"),
        (("txt",), "one.wav", "not a folder"),
    ],
)
def test_an_impossible_request_is_refused_before_a_model_is_loaded(recordings, formats, out, said):
    out = recordings / out if out else None
    with pytest.raises(UserError, match=said):
        transcribe_paths([recordings], "no-such-model.nemo", None, formats, out)


@pytest.mark.parametrize(
    ("model", "lm", "language", "said"),
    [
        ("nothing.nemo", None, "", "no such model"),
        (".", None, "", "no model.nemo and no model.bin"),
        ("whisper", "lm", "", "Whisper takes no LM"),
        ("m.nemo", None, "cs", "only Whisper"),
        ("m.nemo", "lm", "", "no lm.bin"),
        ("m.nemo", "lm/x.arpa", "", "no unigrams.txt"),
        ("whisper-bass", None, "", "did you mean 'base'"),
    ],
)
def test_models_that_cannot_be_had_are_refused(tmp_path, monkeypatch, model, lm, language, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "m.nemo").touch()
    (tmp_path / "lm").mkdir()
    (tmp_path / "lm" / "x.arpa").touch()
    with pytest.raises(UserError, match=said):
        load_recogniser(model, Path(lm) if lm else None, language)

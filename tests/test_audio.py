"""Clips: what is converted sounds the same, and what is cut, empty or broken is found."""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import soundfile
import soxr

from hlas.errors import UserError
from hlas.manifests.audio.converter import Converted, Converter, Job, audio_name, kept_path
from hlas.manifests.audio.files import load_audio, probe, read_made, to_pcm, write_audio
from hlas.manifests.audio.levels import measure_lufs
from hlas.manifests.audio.mp3 import scan_mp3
from hlas.manifests.audio.options import AudioOptions, Loudness, Trim
from hlas.parallel import map_chunks


def tone(path: Path, seconds: float = 2.0, rate: int = 32000, channels: int = 1, hz: float = 440.0) -> Path:
    """Write a tone; suffix gives the format."""
    samples = 0.4 * np.sin(2 * np.pi * hz * np.arange(int(seconds * rate)) / rate)
    soundfile.write(path, np.stack([samples] * channels, axis=1), rate, format=path.suffix[1:].upper())
    return path


def headless(path: Path) -> bytes:
    """The bytes of an MP3 without the header that states its length, as some encoders write it."""
    data = path.read_bytes()
    header = scan_mp3(data)
    sizes = (size for size in range(24, 1500) if data[size] == 0xFF and scan_mp3(data[size:]))
    bare = data[next(sizes) :]
    found = scan_mp3(bare)
    assert header and found and (found.stated_frames, found.frames) == (None, header.frames)
    return bare


@pytest.fixture
def converter(tmp_path: Path) -> Converter:
    (tmp_path / "clips").mkdir()
    (tmp_path / "out").mkdir()
    return Converter(tmp_path / "clips", tmp_path / "out", AudioOptions())


def convert(converter: Converter, name: str, stated_s: float | None = None) -> Converted:
    (result,) = converter([Job(name, Path(name).stem, stated_s)])
    made = converter.target / audio_name(Path(name).stem, converter.options)
    assert made.exists() == (not result.reason) == bool(result.path)
    assert not result.path or converter.target.parent / result.path == made
    assert not list(converter.target.glob(".*"))
    return result


@pytest.mark.parametrize(("rate", "channels"), [(48000, 1), (32000, 2), (16000, 1), (44100, 2)])
@pytest.mark.parametrize("audio_format", ["wav", "flac"])
def test_a_clip_becomes_16_khz_mono_of_16_bits(
    tmp_path: Path, rate: int, channels: int, audio_format: Literal["wav", "flac"]
) -> None:
    tone(tmp_path / "a.mp3", rate=rate, channels=channels)
    result = convert(Converter(tmp_path, tmp_path, AudioOptions(audio_format)), "a.mp3")
    info = soundfile.info(tmp_path / f"a.{audio_format}")
    assert (info.samplerate, info.channels, info.subtype) == (16000, 1, "PCM_16")
    assert (result.duration_s, result.reason, result.detail) == (info.frames / 16000, "", "")
    assert result.duration_s == pytest.approx(2.0, abs=0.01)
    samples, _ = soundfile.read(tmp_path / f"a.{audio_format}")
    spectrum = np.abs(np.fft.rfft(samples[8000:24000]))  # one second: a bin is one hertz
    assert int(spectrum.argmax()) == 440
    assert np.abs(samples[8000:24000]).max() == pytest.approx(0.4, abs=0.02)


def test_loud_clips_are_limited_and_do_not_wrap_around(converter: Converter) -> None:
    square = np.sign(np.sin(2 * np.pi * 300 * np.arange(32000) / 32000))  # its resampled edges go beyond 1
    soundfile.write(converter.source / "a.wav", square, 32000)
    convert(converter, "a.wav")
    samples, _ = soundfile.read(converter.target / "a.wav", dtype="int16")
    assert samples.max() == 32767 and samples.min() == -32767
    assert np.abs(np.diff(samples.astype(int))).max() < 60000


def test_what_gives_no_sound_has_a_reason(converter: Converter) -> None:
    (converter.source / "empty.mp3").write_bytes(b"")
    (converter.source / "text.mp3").write_bytes(b"<html>404</html>" * 100)
    (converter.source / "folder.mp3").mkdir()
    soundfile.write(converter.source / "silent.wav", np.zeros(16000), 16000)
    soundfile.write(converter.source / "nothing.wav", np.zeros(0), 16000)
    reasons = {name: convert(converter, name).reason for name in ("empty.mp3", "text.mp3", "folder.mp3", "gone.mp3")}
    assert reasons == {
        "empty.mp3": "empty_audio",
        "text.mp3": "undecodable",
        "folder.mp3": "no_audio",
        "gone.mp3": "no_audio",
    }
    assert convert(converter, "silent.wav").reason == "silent"
    assert convert(converter, "nothing.wav").reason == "empty_audio"


@pytest.mark.parametrize("offset_s", [None, 0.5])
@pytest.mark.parametrize("audio_format", ["wav", "keep"])
def test_what_could_be_read_for_ever_is_no_audio(
    converter: Converter, audio_format: Literal["wav", "keep"], offset_s: float | None
) -> None:
    os.mkfifo(converter.source / "pipe.wav")
    reading = replace(converter, options=AudioOptions(audio_format))
    results = reading([Job("pipe.wav", "pipe", offset_s=offset_s), Job("/dev/zero", "zero", offset_s=offset_s)])
    assert [(r.reason, r.detail) for r in results] == [("no_audio", "not a regular file")] * 2
    with pytest.raises(UserError, match="not a regular file"):
        load_audio(converter.source / "pipe.wav", 16000)


@pytest.mark.parametrize("share", [0.2, 0.5, 0.8])
def test_a_cut_mp3_is_found_by_its_own_header(converter: Converter, share: float) -> None:
    data = tone(converter.source / "a.mp3").read_bytes()
    (converter.source / "a.mp3").write_bytes(data[: int(len(data) * share)])
    assert convert(converter, "a.mp3").reason == "truncated"


def test_a_cut_mp3_without_a_header_is_found_by_the_releases_durations(converter: Converter) -> None:
    data = headless(tone(converter.source / "a.mp3"))
    (converter.source / "a.mp3").write_bytes(data)
    whole = convert(converter, "a.mp3", 2.0)
    assert not whole.reason
    assert whole.duration_s == pytest.approx(2.0, abs=0.1)
    (converter.target / "a.wav").unlink()
    (converter.source / "a.mp3").write_bytes(data[: len(data) // 2])
    result = convert(converter, "a.mp3", 2.0)
    assert (result.reason, result.detail[-9:]) == ("truncated", "of 2.00 s")


def test_an_mp3_of_variable_rate_without_a_header_keeps_its_end(converter: Converter) -> None:
    rng = np.random.default_rng(0)
    loud_then_soft = np.concatenate([rng.uniform(-0.9, 0.9, 3200), 0.1 * np.sin(np.arange(48000) / 9)])
    soundfile.write(converter.source / "a.mp3", loud_then_soft, 16000, format="MP3")
    bare = headless(converter.source / "a.mp3")
    (converter.source / "a.mp3").write_bytes(bare)
    assert soundfile.info(converter.source / "a.mp3").duration < 2.5  # the decoder's guess
    whole = convert(converter, "a.mp3", 3.2)
    assert not whole.reason
    assert whole.duration_s == pytest.approx(3.2, abs=0.2)
    samples = load_audio(converter.source / "a.mp3", 16000)
    assert len(samples) / 16000 == pytest.approx(3.2, abs=0.2)
    assert np.abs(samples[-16000:-8000]).max() == pytest.approx(0.1, abs=0.02)


def test_a_cut_mp3_without_any_statement_is_found_by_its_last_frame(converter: Converter) -> None:
    data = headless(tone(converter.source / "a.mp3"))
    (converter.source / "a.mp3").write_bytes(data[: len(data) // 2 + 7])
    assert convert(converter, "a.mp3").reason == "truncated"
    (converter.source / "b.mp3").write_bytes(data)
    assert convert(converter, "b.mp3").reason == ""


@pytest.mark.parametrize("rate", [8000, 11025, 16000, 22050, 24000, 32000, 44100, 48000])
def test_the_frames_of_an_mp3_are_counted(tmp_path: Path, rate: int) -> None:
    data = tone(tmp_path / "a.mp3", 1.0, rate).read_bytes()
    mp3 = scan_mp3(data)
    assert mp3 and mp3.stated_frames == mp3.frames and not mp3.cut and mp3.missing_s == 0
    assert 1.0 <= mp3.frames * mp3.frame_s <= 1.0 + 4 * mp3.frame_s  # encoders pad
    tagged = b"ID3\x04\0\0\0\0\x01\x00" + bytes(128) + data + b"TAG" + bytes(125)
    assert scan_mp3(tagged) == mp3
    cut = scan_mp3(data[:-1])
    assert cut and cut.cut and cut.frames == mp3.frames - 1


def test_a_damaged_stream_is_left_to_the_decoder(tmp_path: Path) -> None:
    data = tone(tmp_path / "a.mp3").read_bytes()
    assert scan_mp3(data[:2000] + b"\x55" * 300 + data[2000:]) is None
    assert scan_mp3(b"RIFF1234WAVE") is None
    assert scan_mp3(b"") is None


def test_a_clip_that_is_made_is_not_made_again(converter: Converter) -> None:
    tone(converter.source / "a.mp3")
    first = convert(converter, "a.mp3")
    tone(converter.source / "a.mp3", seconds=1.0)
    assert convert(converter, "a.mp3") == first
    made = converter.target / "a.wav"
    made.write_bytes(made.read_bytes()[:-100])  # a crash of the machine left less
    assert convert(converter, "a.mp3").duration_s == pytest.approx(1.0, abs=0.01)


@pytest.mark.parametrize("suffix", ["wav", "flac"])
def test_half_a_made_clip_is_not_whole(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    pcm = to_pcm(np.sin(np.arange(32000) / 9).astype(np.float32))
    write_audio(path, pcm, 16000)
    made = read_made(path)
    assert made and made[1] == 16000 and np.array_equal(made[0], pcm)
    for size in (path.stat().st_size // 2, 44, 20, 0):
        path.write_bytes(path.read_bytes()[:size])
        assert read_made(path) is None
    assert read_made(tmp_path / "gone.wav") is None


def test_load_audio_gives_mono_floats_at_the_wanted_rate(tmp_path: Path) -> None:
    samples = load_audio(tone(tmp_path / "a.flac", rate=48000, channels=2), 16000)
    assert samples.shape == (32000,) and samples.dtype == np.float32
    (tmp_path / "b.wav").write_bytes(b"no audio")
    with pytest.raises(UserError, match="cannot be decoded"):
        load_audio(tmp_path / "b.wav", 16000)


@pytest.mark.parametrize("samples", [np.zeros(0), np.array([0.1, np.nan]), np.array([np.inf, 0.0])])
def test_audio_without_sound_values_is_refused(tmp_path: Path, samples: np.ndarray) -> None:
    path = tmp_path / "odd.wav"
    soundfile.write(path, samples, 16000, subtype="FLOAT")
    with pytest.raises(UserError, match=r"odd\.wav: holds"):
        load_audio(path, 16000)


@pytest.mark.parametrize("rate", [8000, 16000, 44100])
def test_a_wav_is_written_as_libsndfile_writes_it(tmp_path: Path, rate: int) -> None:
    pcm = to_pcm(np.random.default_rng(0).uniform(-1.2, 1.2, 1234).astype(np.float32))
    write_audio(tmp_path / "own.wav", pcm, rate)
    soundfile.write(tmp_path / "peer.wav", pcm, rate, subtype="PCM_16")
    assert (tmp_path / "own.wav").read_bytes() == (tmp_path / "peer.wav").read_bytes()


def test_a_clip_is_the_peers_samples_resampled_and_rounded(converter: Converter) -> None:
    tone(converter.source / "a.mp3", rate=48000)
    convert(converter, "a.mp3")
    decoded, rate = soundfile.read(converter.source / "a.mp3", dtype="float32")
    expected = np.rint(np.clip(soxr.resample(decoded, rate, 16000), -1, 1) * 32767)
    samples, _ = soundfile.read(converter.target / "a.wav", dtype="int16")
    assert np.array_equal(samples, expected.astype(np.int16))


def test_a_full_disk_is_one_clear_error(converter: Converter) -> None:
    tone(converter.source / "a.mp3")
    gone = replace(converter, target=converter.target / "gone")
    with pytest.raises(UserError, match=r"a\.wav: cannot be written: No such file"):
        gone([Job("a.mp3", "a")])


def test_samples_that_are_no_numbers_are_rejected(converter: Converter) -> None:
    soundfile.write(converter.source / "a.wav", np.array([0.1, np.nan, 0.2]), 16000, subtype="FLOAT")
    assert convert(converter, "a.wav").reason == "undecodable"


def test_two_processes_write_what_one_writes(tmp_path: Path) -> None:
    options = AudioOptions(trim=Trim(), loudness=Loudness())
    jobs = []
    for i in range(4):
        tone(tmp_path / f"{i}.mp3", 0.5 + i / 4, hz=300 + 50 * i)
        jobs.append(Job(f"{i}.mp3", f"clip-{i}"))
    results = []
    for workers in (1, 2):
        target = tmp_path / f"of-{workers}"
        target.mkdir()
        converted = list(map_chunks(Converter(tmp_path, target, options), jobs, workers=workers, chunk_size=2))
        bytes_of = {path.name: path.read_bytes() for path in target.iterdir()}
        results.append(([replace_folder(c, target.name) for c in converted], bytes_of))
    assert results[0] == results[1] and len(results[0][1]) == 4


def replace_folder(converted: Converted, folder: str) -> Converted:
    assert converted.path.startswith(folder)
    return converted._replace(path=converted.path.removeprefix(folder))


def speech_with_pauses(rate: int = 16000) -> np.ndarray:
    """Faint hiss for a second, a tone with a pause in it for a second, hiss for half a second."""
    rng = np.random.default_rng(0)
    samples = 1e-4 * rng.standard_normal(int(2.5 * rate))
    t = np.arange(rate)
    samples[rate : 2 * rate] += 0.3 * np.sin(t / 5) * (np.abs(t - rate / 2) > rate / 8)
    return samples


@pytest.mark.parametrize("margin_s", [0.0, 0.1, 5.0])
def test_silence_is_cut_at_the_ends_only(converter: Converter, margin_s: float) -> None:
    soundfile.write(converter.source / "a.wav", speech_with_pauses(), 16000)
    result = convert(replace(converter, options=AudioOptions(trim=Trim(margin_s=margin_s))), "a.wav")
    whole = to_pcm(load_audio(converter.source / "a.wav", 16000))
    samples, _ = soundfile.read(converter.target / "a.wav", dtype="int16")
    start, end = max(0.0, 1 - margin_s), min(2.5, 2 + margin_s)
    assert result.duration_s == pytest.approx(end - start, abs=0.021)
    starts = range(len(whole) - len(samples) + 1)
    assert any(np.array_equal(whole[i : i + len(samples)], samples) for i in starts)  # the pause is still there


@pytest.mark.parametrize("level", [0.01, 0.1, 0.9])
def test_clips_get_one_loudness_as_far_as_the_peak_allows(converter: Converter, level: float) -> None:
    samples = level * speech_with_pauses() / 0.3
    soundfile.write(converter.source / "a.wav", samples, 16000, subtype="FLOAT")
    convert(replace(converter, options=AudioOptions(loudness=Loudness(-20.0, -1.0))), "a.wav")
    assert measure_lufs(load_audio(converter.target / "a.wav", 16000), 16000) == pytest.approx(-20, abs=0.1)
    (converter.target / "a.wav").unlink()
    convert(replace(converter, options=AudioOptions(loudness=Loudness(-5.0, -6.0))), "a.wav")
    peak = np.abs(load_audio(converter.target / "a.wav", 16000)).max()
    assert 20 * np.log10(peak) == pytest.approx(-6, abs=0.01)


def test_a_clip_too_short_for_a_loudness_gets_the_peak(converter: Converter) -> None:
    tone(converter.source / "a.wav", seconds=0.3)
    convert(replace(converter, options=AudioOptions(loudness=Loudness(peak_dbfs=-3.0))), "a.wav")
    peak = np.abs(load_audio(converter.target / "a.wav", 16000)).max()
    assert 20 * np.log10(peak) == pytest.approx(-3, abs=0.01)


@pytest.mark.parametrize("suffix", ["wav", "flac", "mp3"])
def test_utterances_are_cut_out_of_a_long_file(converter: Converter, suffix: str) -> None:
    hz = [300, 500, 700]
    t = np.arange(16000) / 16000
    soundfile.write(
        converter.source / f"long.{suffix}",
        np.concatenate([0.4 * np.sin(2 * np.pi * f * t) for f in hz]),
        16000,
        format=suffix.upper(),
    )
    file = f"long.{suffix}"
    jobs = [Job(file, f"u{i}", None, float(i), 1.0) for i in range(3)] + [Job(file, "end", None, 1.5, None)]
    for job, result in zip(jobs, converter(jobs), strict=True):
        assert not result.reason and result.path == f"out/{job.utterance}.wav"
    for i, f in enumerate(hz):
        samples, _ = soundfile.read(converter.target / f"u{i}.wav")
        assert len(samples) == 16000
        assert int(np.abs(np.fft.rfft(samples[1600:14400], 16000)).argmax()) == pytest.approx(f, abs=1)
    assert soundfile.info(converter.target / "end.wav").duration == pytest.approx(1.5, abs=0.1)
    part = load_audio(converter.source / file, 16000, 1.0, 1.0)
    made, _ = soundfile.read(converter.target / "u1.wav", dtype="int16")
    assert np.array_equal(to_pcm(part), made)
    beyond = converter([Job(file, "beyond", None, 2.5, 1.0), Job(file, "outside", None, 9.0, None)])
    assert [result.reason for result in beyond] == ["truncated", "empty_audio"]


def test_kept_files_are_probed_and_nothing_is_written(converter: Converter) -> None:
    keep = replace(converter, options=AudioOptions("keep"))
    data = tone(converter.source / "a.mp3").read_bytes()
    tone(converter.source / "b.flac", 1.0)
    (converter.source / "cut.mp3").write_bytes(data[: len(data) // 2])
    (converter.source / "text.mp3").write_bytes(b"<html>404</html>" * 100)
    (converter.source / "empty.wav").write_bytes(b"")
    jobs = [Job(name, Path(name).stem) for name in ("a.mp3", "b.flac", "cut.mp3", "text.mp3", "empty.wav", "gone.mp3")]
    results = keep([*jobs, Job("b.flac", "b2", None, 0.25, 0.5), Job("b.flac", "b3", None, 0.75, 0.9)])
    reasons = [result.reason for result in results]
    assert reasons == ["", "", "truncated", "undecodable", "empty_audio", "no_audio", "", "truncated"]
    assert results[0].path == "clips/a.mp3"  # from the manifest, whose folder is that of out/
    assert results[0].duration_s == pytest.approx(2.0, abs=0.1) and results[1].duration_s == 1.0
    assert results[6].duration_s == 0.5
    assert not list(converter.target.iterdir())
    assert keep([Job("a.mp3", "a", 9.0)])[0].reason == "truncated"


def test_a_kept_file_outside_the_store_keeps_its_absolute_path(tmp_path: Path) -> None:
    manifests = tmp_path / "store" / "manifests-0123"
    outside = tmp_path / "corpus" / "a.mp3"
    assert kept_path(outside, manifests) == str(outside)
    assert kept_path(tmp_path / "store" / "corpus-1" / "a.mp3", manifests) == "../corpus-1/a.mp3"


@pytest.mark.parametrize("name", ["a.mp3", "a.wav", "a.flac"])
@pytest.mark.parametrize("rate", [16000, 44100])
def test_a_probe_is_exact(tmp_path: Path, name: str, rate: int) -> None:
    path = tone(tmp_path / name, 1.37, rate)
    decoded, _ = soundfile.read(path)
    found = probe(path)
    assert found.reason == "" and found.duration_s == pytest.approx(len(decoded) / rate, abs=1e-9)


def test_a_probe_of_a_variable_rate_without_a_header_is_exact(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    loud_then_soft = np.concatenate([rng.uniform(-0.9, 0.9, 3200), 0.1 * np.sin(np.arange(48000) / 9)])
    soundfile.write(tmp_path / "a.mp3", loud_then_soft, 16000, format="MP3")
    (tmp_path / "a.mp3").write_bytes(headless(tmp_path / "a.mp3"))
    assert probe(tmp_path / "a.mp3").duration_s == pytest.approx(3.2, abs=0.2)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"format": "keep", "trim": Trim()}, "keep leaves the files"),
        ({"format": "keep", "loudness": Loudness()}, "keep leaves the files"),
        ({"trust_durations": True}, "is for format keep"),
        ({"sample_rate_hz": 4000}, "less than 8000"),
    ],
)
def test_options_that_contradict_each_other_are_refused(options: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        AudioOptions(**options)

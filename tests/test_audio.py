"""Clips: what is converted sounds the same, and what is cut, empty or broken is found."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from hlas.errors import UserError
from hlas.manifests.audio import Converted, Converter, Job, audio_name, load_audio, made_duration
from hlas.manifests.mp3 import scan_mp3


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
    return Converter(tmp_path / "clips", tmp_path / "out", "wav", 16000)


def convert(converter: Converter, name: str, stated_s: float | None = None) -> Converted:
    (result,) = converter([Job(name, stated_s)])
    assert (converter.target / audio_name(name, converter.audio_format)).exists() == (not result.reason)
    assert not list(converter.target.glob(".*"))
    return result


@pytest.mark.parametrize(("rate", "channels"), [(48000, 1), (32000, 2), (16000, 1), (44100, 2)])
@pytest.mark.parametrize("audio_format", ["wav", "flac"])
def test_a_clip_becomes_16_khz_mono_of_16_bits(tmp_path: Path, rate: int, channels: int, audio_format: str) -> None:
    tone(tmp_path / "a.mp3", rate=rate, channels=channels)
    result = convert(Converter(tmp_path, tmp_path, audio_format, 16000), "a.mp3")
    info = soundfile.info(tmp_path / f"a.{audio_format}")
    assert (info.samplerate, info.channels, info.subtype) == (16000, 1, "PCM_16")
    assert result == Converted(info.frames / 16000)
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
    path = tone(tmp_path / f"a.{suffix}", rate=16000)
    assert made_duration(path) == 2.0
    for size in (path.stat().st_size // 2, 20, 0):
        path.write_bytes(path.read_bytes()[:size])
        assert made_duration(path) is None
    assert made_duration(tmp_path / "gone.wav") is None


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

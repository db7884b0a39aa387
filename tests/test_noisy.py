"""The stage `noisy`: the SNR that was asked for is the one in the files, and nothing else of a manifest changes."""

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from hlas.augment.mixing import reverberate
from hlas.augment.noisy_stage import Params, run
from hlas.errors import UserError
from hlas.manifests.audio.files import load_utterance
from hlas.manifests.audio.levels import active_energy
from hlas.manifests.rows import Row, audio_path, read_manifest, write_rows
from hlas.paths import project_root
from hlas.recipe import load_recipe
from hlas.stage import Input, Stage

RATE = 16000


def bursts(seconds: float, level: float, hz: float) -> np.ndarray:
    """Syllables of 0.3 s with pauses of 0.2 s."""
    t = np.arange(int(seconds * RATE)) / RATE
    return level * np.sin(2 * np.pi * hz * t) * (t % 0.5 < 0.3)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A folder with test.jsonl, noise.jsonl (one clip shorter than an utterance) and rooms.jsonl."""
    rng = np.random.default_rng(0)
    rows = []
    for i, level in enumerate((0.02, 0.1, 0.3, 0.95)):
        soundfile.write(tmp_path / f"u{i}.wav", bursts(2 + i / 2, level, 200 + 50 * i), RATE)
        rows.append(Row(f"u{i}.wav", 2 + i / 2, f"text {i}", raw_text=f"Text {i}.", speaker=f"s{i % 2}", gender="x"))
    soundfile.write(tmp_path / "long.flac", np.tile(bursts(2, 0.2, 300), 2), RATE)
    rows.append(Row("long.flac", 1.5, "cut out", offset=1.0))
    write_rows(tmp_path / "test.jsonl", rows)
    write_rows(tmp_path / "dev.jsonl", [replace(rows[0], audio_filepath="d.flac")])
    soundfile.write(tmp_path / "d.flac", bursts(1, 0.1, 250), 8000)
    for name, seconds in (("n0", 6.0), ("n1", 0.7)):
        soundfile.write(tmp_path / f"{name}.wav", 0.05 * rng.standard_normal(int(seconds * RATE)), RATE)
    write_rows(tmp_path / "noise.jsonl", [Row("n0.wav", 6.0, ""), Row("n1.wav", 0.7, "")])
    response = 0.3 * np.exp(-np.arange(4000) / 800) * rng.standard_normal(4000)
    response[:50], response[50] = 0, 0.9
    soundfile.write(tmp_path / "r0.wav", response, RATE)
    write_rows(tmp_path / "rooms.jsonl", [Row("r0.wav", 0.25, "")])
    return tmp_path


def noisy(home: Path, params: Params, name: str = "noisy", workers: int = 1, **inputs: tuple[Input, ...]) -> Path:
    folder = home / "store" / name
    folder.mkdir(parents=True)
    given = {"data": (Input(home / "test.jsonl"),), "noise": (Input(home / "noise.jsonl"),), **inputs}
    stage = Stage("noisy", "noisy", folder, given, None, logging.getLogger("hlas"), workers)
    run(params, stage)
    return folder


def both(data: Path, folder: Path, split: str = "test") -> list[tuple[Row, np.ndarray, np.ndarray]]:
    """Each clean row, its samples, the noisy samples."""
    rows, mixed = read_manifest(data / f"{split}.jsonl"), read_manifest(folder / f"{split}.jsonl")
    assert [row.utterance for row in rows] == [row.utterance for row in mixed]
    return [
        (row, load_utterance(row, data, RATE).astype(float), load_utterance(other, folder, RATE).astype(float))
        for row, other in zip(rows, mixed, strict=True)
    ]


@pytest.mark.parametrize("snr_db", [30.0, 20.0, 10.0, 0.0, -5.0])
def test_the_snr_in_the_files_is_the_one_asked_for(data: Path, snr_db: float) -> None:
    noise, _ = soundfile.read(data / "n0.wav")
    write_rows(data / "noise.jsonl", [Row("n0.wav", 6.0, "")])
    pairs = both(data, noisy(data, Params(snr_db)))
    limited = 0
    for _, clean, mixed in pairs:
        size = 1 << 18
        at = int(np.fft.irfft(np.fft.rfft(noise, size) * np.conj(np.fft.rfft(mixed, size)))[: len(noise)].argmax())
        piece = noise[at : at + len(mixed)]
        (speech_gain, noise_gain), (residual,), *_ = np.linalg.lstsq(np.stack([clean, piece], axis=1), mixed)
        assert residual / len(mixed) < 1e-9  # the clip is these two and nothing else
        energy = active_energy(clean.astype(np.float32), RATE) * speech_gain**2
        assert 10 * np.log10(energy / np.mean((noise_gain * piece) ** 2)) == pytest.approx(snr_db, abs=0.1)
        assert speech_gain == pytest.approx(1, abs=0.01) or np.abs(mixed).max() == pytest.approx(0.999, abs=1e-3)
        limited += speech_gain < 0.99
    assert len(pairs) == 5 and limited  # one is so loud that the mix has to be softer


def test_only_the_audio_of_a_row_changes(data: Path) -> None:
    folder = noisy(data, Params(10.0), data=(Input(data / "test.jsonl"), Input(data / "dev.jsonl")))
    for split in ("test", "dev"):
        old, new = read_manifest(data / f"{split}.jsonl"), read_manifest(folder / f"{split}.jsonl")
        for before, after in zip(old, new, strict=True):
            info = soundfile.info(audio_path(after, folder))
            assert (info.samplerate, info.channels, info.frames / RATE) == (RATE, 1, after.duration)
            assert after.duration == pytest.approx(before.duration, abs=1 / RATE) or split == "dev"
            assert after.offset is None and after.snr_db is not None
            same = {"audio_filepath": "", "duration": 0.0, "offset": None, "snr_db": None}
            assert replace(after, **same) == replace(before, **same)  # type: ignore[arg-type]  # values of any type


def test_two_workers_write_the_bytes_of_one(data: Path) -> None:
    def contents(folder: Path) -> dict[str, bytes]:
        return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}

    write_rows(data / "test.jsonl", many := [replace(r) for r in read_manifest(data / "test.jsonl")])
    for i in range(40):  # more than one chunk
        soundfile.write(data / f"more{i}.wav", bursts(0.6, 0.1, 300 + i), RATE)
        many.append(Row(f"more{i}.wav", 0.6, "more"))
    write_rows(data / "test.jsonl", many)
    rooms = (Input(data / "rooms.jsonl"),)
    one, two = (contents(noisy(data, Params(10.0), f"of-{n}", n, rooms=rooms)) for n in (1, 2))
    assert one == two and len(one) == 46


def test_every_level_has_the_same_noise_and_another_seed_has_another(data: Path) -> None:
    _, clean, loud = both(data, noisy(data, Params(0.0), "loud"))[1]
    _, _, soft = both(data, noisy(data, Params(20.0), "soft"))[1]
    assert np.corrcoef(loud - clean, soft - clean)[0, 1] > 0.999
    _, _, other = both(data, noisy(data, Params(0.0, seed=2), "other"))[1]
    assert abs(np.corrcoef(loud - clean, other - clean)[0, 1]) < 0.1


def test_a_short_noise_is_heard_to_the_end(data: Path) -> None:
    write_rows(data / "noise.jsonl", [Row("n1.wav", 0.7, "")])
    for _, clean, mixed in both(data, noisy(data, Params(20.0)))[:2]:
        noise = (mixed - clean)[: len(clean) // 1600 * 1600].reshape(-1, 1600)
        assert noise.std(axis=1).min() > 0.5 * noise.std()


def test_a_room_is_heard_without_delay(data: Path) -> None:
    rng = np.random.default_rng(1)
    for i, level in enumerate((0.01, 0.1, 0.3)):  # hiss, as a tone is like itself a period later
        gate = np.arange(2 * RATE) / RATE % 0.5 < 0.3
        soundfile.write(data / f"h{i}.wav", level * gate * rng.uniform(-1, 1, 2 * RATE), RATE)
    write_rows(data / "test.jsonl", [Row(f"h{i}.wav", 2.0, "hiss") for i in range(3)])
    for _, clean, wet in both(data, noisy(data, Params(), rooms=(Input(data / "rooms.jsonl"),), noise=())):
        assert len(wet) == len(clean)
        correlation = np.fft.irfft(np.fft.rfft(wet) * np.conj(np.fft.rfft(clean)))
        assert correlation.argmax() == 0
        pauses = np.arange(len(clean)) / RATE % 0.5 > 0.31
        assert np.abs(clean[pauses]).max() == 0 < np.abs(wet[pauses]).max()
        assert np.sqrt(np.mean(wet**2)) == pytest.approx(np.sqrt(np.mean(clean**2)), rel=0.05)


def test_a_room_that_gives_back_one_sound_changes_nothing() -> None:
    speech = bursts(1, 0.3, 440).astype(np.float32)
    response = np.zeros(400, dtype=np.float32)
    response[123] = 0.9
    assert reverberate(speech, response) == pytest.approx(speech, abs=1e-6)


def test_what_cannot_be_mixed_is_an_error(data: Path) -> None:
    with pytest.raises(UserError, match="noise without snr_db"):
        noisy(data, Params(), "a")
    with pytest.raises(UserError, match="neither noise nor rooms"):
        noisy(data, Params(), "b", noise=())
    rooms = (Input(data / "rooms.jsonl"),)
    with pytest.raises(UserError, match="snr_db without noise"):
        noisy(data, Params(10.0), "c", noise=(), rooms=rooms)
    write_rows(data / "dev.jsonl", [Row("u0.wav", 1.0, "twice")])
    with pytest.raises(UserError, match=r"1 utterance.* name twice, the first is 'u0'"):
        noisy(data, Params(10.0), "d", data=(Input(data / "test.jsonl"), Input(data / "dev.jsonl")))
    write_rows(data / "noise.jsonl", [])
    with pytest.raises(UserError, match=r"noisy\.noise: the manifest is empty"):
        noisy(data, Params(10.0), "e")
    with pytest.raises(ValueError, match="snr_db is not between"):
        Params(300.0)


def test_the_shipped_grid_has_a_variant_a_level_in_one_report(tmp_path: Path) -> None:
    recipe = load_recipe(project_root() / "recipes/demo_noisy.yaml")
    levels = [stage.params.snr_db for stage in recipe.stages if stage.kind == "noisy"]
    assert levels == [20, 10, 0]
    systems = [str(edge) for edge in recipe.stage("report").inputs["systems"]]
    assert systems[:2] == ["greedy", "beam_lm"]
    assert {f"noisy_{kind}@snr_db={level:g}" for kind in ("greedy", "beam_lm") for level in levels} <= set(systems)
    for level in levels:
        (read,) = recipe.stage(f"noisy_greedy@snr_db={level:g}").inputs["logprobs"]
        data = {str(edge) for edge in recipe.stage(str(read)).inputs["data"]}
        assert f"noisy@snr_db={level:g}.test" in data

"""The stage `augment`: noise of the colour asked for, babble of train speakers, rooms that last as long as drawn."""

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from hlas.augment.noise import NoiseJob, NoiseMaker, coloured
from hlas.augment.options import BabbleOptions, ColouredOptions, RoomOptions
from hlas.augment.rooms import room_response
from hlas.augment.stage import Params, run
from hlas.errors import UserError
from hlas.manifests.rows import Row, audio_path, read_manifest, write_rows
from hlas.params import build_params
from hlas.paths import project_root
from hlas.recipe import load_recipe
from hlas.stage import Input, Stage, Summary
from hlas.yamls import read_yaml

RATE = 16000
SMALL = Params(
    clip_s=2.0,
    coloured=ColouredOptions(clips=2),
    babble=BabbleOptions(clips=3, talkers=(2, 3)),
    simulated_rooms=RoomOptions(count=3, max_size_m=(6.0, 5.0, 3.0), rt60_s=(0.15, 0.3)),
)
NOTHING = Params(coloured=ColouredOptions(0), babble=BabbleOptions(0), simulated_rooms=RoomOptions(0))
VOICES_HZ = {"anna": 500.0, "beno": 1100.0, "cyril": 2300.0}


def augment(folder: Path, params: Params, workers: int = 1, **inputs: Input) -> tuple[Summary, Path]:
    folder.mkdir(parents=True)
    given = {name: (item,) for name, item in inputs.items()}
    stage = Stage("augment", "augment", folder, given, None, logging.getLogger("hlas"), workers)
    return run(params, stage), folder


@pytest.fixture
def speech(tmp_path: Path) -> Input:
    """Three speakers, each of one tone and two utterances."""
    folder = tmp_path / "manifests"
    folder.mkdir()
    rows = []
    for speaker, hz in VOICES_HZ.items():
        for i in range(2):
            tone = 0.1 * (1 + i) * np.sin(2 * np.pi * hz * np.arange(RATE) / RATE)
            soundfile.write(folder / f"{speaker}{i}.wav", tone, RATE)
            rows.append(Row(f"{speaker}{i}.wav", 1.0, "a", speaker=speaker))
    write_rows(folder / "train.jsonl", rows)
    return Input(folder / "train.jsonl", "manifests", "train")


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_the_sets_are_manifests_of_mono_wavs(tmp_path: Path, speech: Input) -> None:
    summary, folder = augment(tmp_path / "augment", SMALL, speech=speech)
    assert summary["counts"] == {
        "noise": {"white": 2, "pink": 2, "brown": 2, "babble": 3},
        "rooms": {"image_source": 3},
    }
    for name in ("noise", "rooms"):
        rows = read_manifest(folder / f"{name}.jsonl")
        assert len({row.utterance for row in rows}) == len(rows) == sum(summary["counts"][name].values())
        for row in rows:
            info = soundfile.info(audio_path(row, folder))
            assert (info.samplerate, info.channels, info.subtype) == (RATE, 1, "PCM_16")
            assert row.duration == info.frames / RATE
            samples, _ = soundfile.read(audio_path(row, folder))
            assert 0 < np.abs(samples).max() < 1
    assert all(row.duration == SMALL.clip_s for row in read_manifest(folder / "noise.jsonl"))
    assert (folder / "rejects.tsv").read_text() == "set\tfile\treason\tdetail\n"


def test_two_workers_write_the_bytes_of_one(tmp_path: Path, speech: Input) -> None:
    made = [contents(augment(tmp_path / f"of-{n}", SMALL, n, speech=speech)[1]) for n in (1, 2)]
    assert made[0] == made[1]
    other = contents(augment(tmp_path / "seed", replace(SMALL, seed=2), speech=speech)[1])
    assert other.keys() == made[0].keys()
    assert all(other[name] != made[0][name] for name in other if name.endswith(".wav"))


def test_a_clip_does_not_depend_on_how_many_there_are(tmp_path: Path) -> None:
    few = contents(augment(tmp_path / "few", SMALL)[1])
    more = contents(augment(tmp_path / "more", replace(SMALL, coloured=ColouredOptions(clips=3)))[1])
    assert all(more[name] == data for name, data in few.items() if name.endswith(".wav"))
    assert len({data for name, data in more.items() if name.startswith("noise/")}) == 9


@pytest.mark.parametrize(("colour", "db_an_octave"), [("white", 0.0), ("pink", -3.01), ("brown", -6.02)])
def test_the_spectrum_falls_as_the_colour_says(colour: str, db_an_octave: float) -> None:
    samples = coloured(colour, 60 * RATE, RATE, np.random.default_rng(0))
    assert np.sqrt(np.mean(samples**2)) == pytest.approx(1, abs=1e-3)
    power = np.abs(np.fft.rfft(samples.astype(np.float64))) ** 2
    hz = np.fft.rfftfreq(len(samples), 1 / RATE)
    octaves = [10 * np.log10(power[(hz >= low) & (hz < 2 * low)].mean()) for low in (100, 200, 400, 800, 1600, 3200)]
    assert np.diff(octaves) == pytest.approx([db_an_octave] * 5, abs=0.35)


def test_babble_is_several_speakers_of_equal_level(tmp_path: Path, speech: Input) -> None:
    (tmp_path / "noise").mkdir()
    maker = NoiseMaker(tmp_path / "noise", 1, RATE, 3.0, (3, 3), speech.path)
    maker([NoiseJob("babble", 0)])
    samples, _ = soundfile.read(tmp_path / "noise/babble-0000.wav")
    spectrum = np.abs(np.fft.rfft(samples))
    levels = [spectrum[int(hz * 3) - 3 : int(hz * 3) + 4].max() for hz in VOICES_HZ.values()]
    assert max(levels) / min(levels) < 1.2  # though the utterances are 6 dB apart
    assert min(levels) > 20 * np.median(spectrum)


def test_babble_of_a_test_split_is_refused(tmp_path: Path) -> None:
    recipe = tmp_path / "r.yaml"
    text = (project_root() / "recipes/demo_noisy.yaml").read_text(encoding="utf-8")
    text = text.replace("extends: demo.yaml", f"extends: {project_root() / 'recipes/demo.yaml'}")
    recipe.write_text(text, encoding="utf-8")
    assert load_recipe(recipe).stage("augment").inputs["speech"]
    recipe.write_text(text.replace("speech: manifests.train", "speech: manifests.test"), encoding="utf-8")
    with pytest.raises(UserError, match=r"augment.*speech.*manifests\.test"):
        load_recipe(recipe)


def test_rooms_last_about_as_long_as_drawn() -> None:
    for rt60_s in (0.2, 0.5):
        options = RoomOptions(min_size_m=(5, 4, 3), max_size_m=(6, 5, 3.2), rt60_s=(rt60_s, rt60_s))
        for seed in range(3):
            response = room_response(options, RATE, np.random.default_rng(seed)).astype(np.float64)
            decay_db = 10 * np.log10(np.cumsum(response[::-1] ** 2)[::-1] / np.sum(response**2))  # Schroeder 1965
            start, end = np.argmax(decay_db < -5), np.argmax(decay_db < -25)
            assert 3 * (end - start) / RATE == pytest.approx(rt60_s, rel=0.5)  # Sabine's formula is a rough one


def test_ranges_that_no_room_fits_are_an_error(tmp_path: Path) -> None:
    rooms = RoomOptions(count=1, min_size_m=(9, 9, 9), max_size_m=(9, 9, 9), rt60_s=(0.05, 0.06))
    with pytest.raises(UserError, match="no room fits its ranges"):
        augment(tmp_path / "augment", replace(NOTHING, simulated_rooms=rooms))


def test_recordings_are_cut_converted_and_counted(tmp_path: Path) -> None:
    recordings = tmp_path / "recordings"
    (recordings / "street").mkdir(parents=True)
    rng = np.random.default_rng(0)
    soundfile.write(recordings / "street/long.flac", 0.1 * rng.standard_normal((44100 * 5, 2)), 44100)
    soundfile.write(recordings / "a.mp3", 0.1 * rng.standard_normal(RATE * 2), RATE, format="MP3")
    soundfile.write(recordings / "short.wav", 0.1 * rng.standard_normal(RATE // 2), RATE)
    soundfile.write(recordings / "silent.wav", np.zeros(RATE * 2), RATE)
    (recordings / "broken.wav").write_bytes(b"RIFF")
    (recordings / "notes.txt").write_text("no audio")
    summary, folder = augment(tmp_path / "augment", replace(NOTHING, clip_s=2.0), noise=Input(recordings))
    assert summary["counts"]["noise"] == {"recorded": 4}  # 2 s; 2 + 2 + 1 s
    assert sorted(row.duration for row in read_manifest(folder / "noise.jsonl")) == pytest.approx([1, 2, 2, 2], abs=0.1)
    rejects = [line.split("\t")[:3] for line in (folder / "rejects.tsv").read_text().splitlines()[1:]]
    assert sorted(rejects) == [
        ["noise", "broken.wav", "undecodable"],
        ["noise", "short.wav", "too_short"],
        ["noise", "silent.wav", "silent"],
    ]
    assert not (folder / "rooms.jsonl").exists()


def test_recorded_responses_keep_their_form(tmp_path: Path) -> None:
    recordings = tmp_path / "rirs"
    recordings.mkdir()
    response = np.zeros((800, 2))
    response[100], response[300], response[101, 1] = 0.5, 0.25, -0.5
    soundfile.write(recordings / "hall.wav", response, RATE)
    (recordings / "broken.wav").write_bytes(b"RIFF")
    soundfile.write(recordings / "short.wav", np.ones(1) / 2, 3 * RATE)  # no sample is left of it
    soundfile.write(recordings / "unplugged.wav", np.stack([np.zeros(800), response[:, 1]], axis=1), RATE)
    summary, folder = augment(tmp_path / "augment", NOTHING, rooms=Input(recordings))
    assert summary == {
        "counts": {"noise": {}, "rooms": {"recorded": 1}},
        "rejected": {"noise": 0, "rooms": 3},
    }
    (row,) = read_manifest(folder / "rooms.jsonl")
    samples, _ = soundfile.read(audio_path(row, folder))
    assert np.flatnonzero(samples).tolist() == [100, 300]  # the first microphone alone
    assert samples[100] == pytest.approx(0.9, abs=1e-3) and samples[300] == pytest.approx(0.45, abs=1e-3)


def test_a_folder_without_audio_and_an_empty_spec_are_errors(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"augment\.noise: .*no audio file"):
        augment(tmp_path / "one", NOTHING, noise=Input(tmp_path / "empty"))
    with pytest.raises(UserError, match="neither noise nor rooms"):
        augment(tmp_path / "two", NOTHING)


def test_babble_of_nobody_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").touch()
    speech = Input(tmp_path / "train.jsonl", "manifests", "train")
    with pytest.raises(UserError, match=r"train\.jsonl: the manifest is empty"):
        augment(tmp_path / "augment", replace(NOTHING, babble=BabbleOptions(1)), speech=speech)
    with pytest.raises(ValueError, match="names one twice"):
        ColouredOptions(colours=("white", "white"))


def test_the_shipped_spec_holds_the_defaults() -> None:
    document = read_yaml(project_root() / "manifests/augment.yaml")
    errors: list[UserError] = []
    built = build_params(Params, "augment", document, (), {}, errors, "augment.yaml")
    assert built and not errors
    assert built[0] == Params()

"""Noise and rooms in training: what NeMo's data loader hands to the model, with and without them."""

import logging
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from hlas.augment import stage as augment_stage
from hlas.augment.options import BabbleOptions, ColouredOptions, RoomOptions
from hlas.errors import UserError
from hlas.fingerprint import Hashes, ingredients
from hlas.manifests.rows import Row, write_rows
from hlas.models import train_stage
from hlas.models.augmentor import check_augmentor, with_sets
from hlas.models.training.job import Fit
from hlas.params import resolve_all
from hlas.paths import project_root
from hlas.recipe import load_recipe
from hlas.stage import Input, Stage
from hlas.tokenizers import stage as tokenizer_stage
from hlas.yamls import read_extended

RATE = 16000
LOG = logging.getLogger("hlas")


def stage(folder: Path, kind: str, **inputs: Input) -> Stage:
    folder.mkdir(exist_ok=True)
    return Stage(kind, kind, folder, {name: (item,) for name, item in inputs.items()}, None, LOG, workers=1)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Manifests of tones, a character tokenizer, and an augment stage of noise and rooms."""
    folder = tmp_path_factory.mktemp("store")
    (folder / "manifests").mkdir()
    rows = []
    for i in range(4):
        tone = 0.2 * np.sin(2 * np.pi * (300 + 200 * i) * np.arange(RATE) / RATE)
        soundfile.write(folder / f"manifests/u{i}.wav", tone, RATE)
        rows.append(Row(f"u{i}.wav", 1.0, "ab"))
    for split in ("train", "dev"):
        write_rows(folder / f"manifests/{split}.jsonl", rows)
    train = Input(folder / "manifests/train.jsonl", "manifests", "train")
    tokenizer_stage.run(tokenizer_stage.Params("char"), stage(folder / "tokenizer", "tokenizer", text=train))
    small = augment_stage.Params(
        clip_s=2.0,
        coloured=ColouredOptions(clips=2),
        babble=BabbleOptions(clips=0),
        simulated_rooms=RoomOptions(count=2, max_size_m=(5.0, 5.0, 3.0), rt60_s=(0.2, 0.3)),
    )
    augment_stage.run(small, stage(folder / "augment", "augment"))
    return folder


def model_keys(**augmentor: Any) -> dict[str, Any]:
    """quartznet_mini with 16 channels and three blocks."""
    data, _ = resolve_all(read_extended(project_root() / "models/quartznet_mini.yaml").data, {})
    model: dict[str, Any] = data["model"]
    blocks = [model["encoder"]["jasper"][i] | {"filters": 16, "kernel": [5]} for i in (0, 1, 2)]
    model["encoder"]["jasper"] = blocks
    model["decoder"]["feat_in"] = 16
    model["train_ds"] |= {"batch_size": 4, "shuffle": False, "augmentor": augmentor}
    return model


def sets(store: Path, *names: str) -> dict[str, Path]:
    return {name: store / "augment" / f"{name}.jsonl" for name in names}


def heard(store: Path, seed: int, names: tuple[str, ...], **augmentor: Any) -> np.ndarray:
    """The samples of the first batch that training would see, (clips, samples)."""
    from hlas.models.training.build import build_model
    from hlas.models.training.loading import attach_loaders
    from hlas.models.training.screening import screen

    labels = tokenizer_stage.read_labels(store / "tokenizer")
    train, dev = (store / f"manifests/{split}.jsonl" for split in ("train", "dev"))
    job = Fit(model_keys(**augmentor), {}, "32", seed, train, dev, labels, store, sets=sets(store, *names))
    model = build_model(job, None)
    attach_loaders(model, job, screen(model, job, LOG), 0, 1, LOG)
    samples, lengths, *_ = next(iter(model._train_dl))
    assert samples.shape == (4, RATE) and set(lengths.tolist()) == {RATE}
    return samples.numpy()  # type: ignore[no-any-return]  # torch is untyped here


ALWAYS: dict[str, Any] = {"noise": {"prob": 1.0, "min_snr_db": 10.0, "max_snr_db": 10.0}, "impulse": {"prob": 1.0}}


def test_the_loader_hears_noise_at_the_level_asked_for(store: Path) -> None:
    clean = heard(store, 1, ())
    noisy = heard(store, 1, ("noise",), noise=ALWAYS["noise"])
    measured = 10 * np.log10((clean**2).mean(axis=1) / ((noisy - clean) ** 2).mean(axis=1))
    # NeMo compares the whole clips, also where it takes a part of the noise, whose level wanders
    assert measured == pytest.approx([10] * 4, abs=1.5)


def test_the_loader_hears_rooms(store: Path) -> None:
    clean, wet = heard(store, 1, ()), heard(store, 1, ("rooms",), impulse=ALWAYS["impulse"])
    assert np.abs(wet).max(axis=1) == pytest.approx([1] * 4, abs=1e-3)  # NeMo's own level
    for dry, other in zip(clean, wet, strict=True):
        onset = other[:400] / np.abs(other).max() - dry[:400] / np.abs(dry).max()
        assert np.abs(onset).max() > 0.05


def test_the_seed_decides_what_is_heard(store: Path) -> None:
    first = heard(store, 7, ("noise", "rooms"), **ALWAYS)
    assert np.array_equal(first, heard(store, 7, ("noise", "rooms"), **ALWAYS))
    assert not np.array_equal(first, heard(store, 8, ("noise", "rooms"), **ALWAYS))


def test_a_model_trained_with_them_names_no_path_of_them(store: Path) -> None:
    inputs = {name: Input(store / "manifests" / f"{name}.jsonl", "manifests", name) for name in ("train", "dev")}
    augmented = {name: Input(path, "augment", name) for name, path in sets(store, "noise", "rooms").items()}
    params = train_stage.Params(model_keys(), {"max_epochs": 1})
    run = stage(store / "train", "train", tokenizer=Input(store / "tokenizer", "tokenizer"), **inputs, **augmented)
    train_stage.run(params, run)
    with tarfile.open(store / "train/model.nemo") as archive:
        names = [name for name in archive.getnames() if name.endswith(".yaml")]
        text = "".join(archive.extractfile(name).read().decode() for name in names)  # type: ignore[union-attr]  # files
    assert names and str(store) not in text and "augmentor" not in text


def test_rooms_come_before_noise_and_the_yaml_has_the_last_word() -> None:
    given = {"augmentor": {"gain": {"prob": 0.1}, "noise": {"max_snr_db": 12.0}}}
    made = with_sets(given, {"noise": Path("n.jsonl"), "rooms": Path("r.jsonl")})["augmentor"]
    assert list(made) == ["impulse", "noise", "gain"]
    assert made["noise"] == {"prob": 0.5, "min_snr_db": 5.0, "max_snr_db": 12.0, "manifest_path": "n.jsonl"}
    assert made["impulse"] == {"prob": 0.3, "shift_impulse": True, "manifest_path": "r.jsonl"}
    assert with_sets({"batch_size": 4}, {}) == {"batch_size": 4}


def test_an_augmentor_without_its_set_or_under_lhotse_is_refused() -> None:
    with pytest.raises(UserError, match=r"augmentor\.impulse: the stage reads no rooms"):
        with_sets({"augmentor": {"impulse": {"prob": 1.0}}}, {"noise": Path("n.jsonl")})
    with pytest.raises(UserError, match="lhotse loader knows no augmentor"):
        with_sets({"use_lhotse": True}, {"noise": Path("n.jsonl")})


@pytest.mark.parametrize(
    ("augmentor", "problem"),
    [
        ({"noise": {"prob": 1.0, "manifest_path": "x.json"}}, r"noise\.manifest_path names files"),
        ({"rir_noise_aug": {"prob": 1.0, "rir_manifest_path": "x"}}, r"rir_manifest_path names files"),
        ({"noise": {"audio_tar_filepaths": "x"}}, r"audio_tar_filepaths names files"),
        ({"gain": {"min_gain_dbfs": -3}}, r"gain\.prob is missing"),
        ({"gain": 0.5}, "is not a mapping"),
    ],
)
def test_files_that_no_fingerprint_sees_are_refused(augmentor: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        check_augmentor({"augmentor": augmentor})


def test_the_sets_are_in_the_fingerprint(tmp_path: Path) -> None:
    recipe_file = tmp_path / "r.yaml"
    text = (project_root() / "recipes/demo.yaml").read_text(encoding="utf-8")
    more = "  augment: {spec: manifests/augment.yaml, speech: manifests.train}\n  train:\n    noise: augment.noise\n"
    recipe_file.write_text(text.replace("  train:\n", more), encoding="utf-8")
    recipe = load_recipe(recipe_file)
    made = {name: name for name in ("manifests", "tokenizer", "augment")}
    (one, _), (two, _) = (
        ingredients(recipe, recipe.stage("train"), made | {"augment": fingerprint}, Hashes(tmp_path / "hashes.json"))
        for fingerprint in ("aaa", "bbb")
    )
    assert one["inputs"]["noise"] == [["aaa", "noise"]] and one != two

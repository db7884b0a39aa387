"""Whisper's folders that are not what they should be: another size, damaged, exchanged, half a record."""

import json
import logging
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from safetensors.numpy import load_file, save_file

from finetune_kit import Bench
from hlas.commands.recognition import transcribe
from hlas.errors import UserError
from hlas.files import sha256_file
from hlas.models import whisper_hashes
from hlas.models.finetuning.adapters import add_lora, base_of, chain
from hlas.models.finetuning.options import Lora, Model
from hlas.models.finetuning.saving import save_tuned
from hlas.models.finetuning.start import find, load
from hlas.models.recognise import load_recogniser
from hlas.models.whisper_asr import Whisper
from hlas.models.whisper_checkpoint import whisper_checkpoint
from hlas.models.whisper_folders import engine_folder
from hlas.models.whisper_languages import CODES, check_code
from hlas.models.whisper_options import WhisperOptions
from hlas.models.whisper_sizes import SIZES, Size, size_of
from hlas.models.whisper_weights import whisper_weights

pytest_plugins = ("whisper_kit", "finetune_kit")
FAST = WhisperOptions(beam_size=1, temperatures=(0.0,), device="cpu", compute_type="float32")
PLAIN = replace(FAST, engine="transformers")
LITTLE = Size(1, 16, 2)  # what the tests' tiny model is
WEIGHTS, ADAPTER_WEIGHTS = "model.safetensors", "adapter_model.safetensors"


@pytest.fixture(autouse=True)
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with no weights and no network, and hlas's cache of its own."""
    import huggingface_hub.constants

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in ("HLAS_WHISPER_DIR", "HLAS_WHISPER_HF_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setitem(SIZES, "little", LITTLE)
    return tmp_path


@pytest.fixture
def tuned(machine: Path, tiny_hf: Path) -> Path:
    """A whole model as a finetune stage saves it."""
    found = find("", tiny_hf, "")
    assert save_tuned(load(found), None, False, found, machine / "tuned") == "whole model"
    return machine / "tuned"


@pytest.fixture
def adapter(machine: Path, tiny_hf: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The second of two adapters as finetune stages save them, on a base that is found by its size."""
    monkeypatch.setenv("HLAS_WHISPER_HF_DIR", str(tiny_hf))
    for name, init in (("first", None), ("second", machine / "first")):
        found = find("little" if init is None else "", init, "")
        whisper = load(found)
        assert save_tuned(whisper, add_lora(whisper, Lora(r=2), "none"), False, found, machine / name) == "adapter"
    return machine / "second"


def exchange_last_byte(path: Path) -> None:
    """Change a file but not its length."""
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def edit(path: Path, **changes: Any) -> None:
    """Change keys of a JSON file; None takes one away."""
    content = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: value for key, value in content.items() if value is not None}))


# --- sizes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("folder", ["large-v3-turbo", "turbo"])
@pytest.mark.parametrize("model", ["large-v3-turbo", "turbo"])
def test_turbo_is_found_by_either_name(
    machine: Path, tiny: Path, tiny_hf: Path, monkeypatch: pytest.MonkeyPatch, folder: str, model: str
) -> None:
    monkeypatch.setitem(SIZES, "large-v3-turbo", LITTLE)
    for variable, source, options in (("HLAS_WHISPER_DIR", tiny, FAST), ("HLAS_WHISPER_HF_DIR", tiny_hf, PLAIN)):
        monkeypatch.setenv(variable, str(machine / variable))
        there = shutil.copytree(source, machine / variable / folder)
        assert engine_folder(model, None, options).folder == there


@pytest.mark.parametrize(
    ("size", "says"),
    [
        (Size(1, 16, 2, decoder_layers=2), r"decoder layers: 1 there, 2 wanted"),
        (Size(1, 16, 2, mels=128), r"mel bands: 80 there, 128 wanted"),
    ],
)
def test_decoder_layers_and_mel_bands_tell_sizes_apart(
    tiny: Path, tiny_hf: Path, monkeypatch: pytest.MonkeyPatch, size: Size, says: str
) -> None:
    monkeypatch.setitem(SIZES, "large-v3", size)
    monkeypatch.setenv("HLAS_WHISPER_DIR", str(tiny))
    with pytest.raises(UserError, match=says):
        engine_folder("large-v3", None, FAST)
    with pytest.raises(UserError, match=r"a Whisper little .* not a Whisper large-v3") as caught:
        whisper_checkpoint("large-v3", tiny_hf)
    assert "HLAS_WHISPER_HF_DIR" in caught.value.fix


def test_weights_of_another_size_than_their_config_are_refused(
    machine: Path, tiny_hf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = shutil.copytree(tiny_hf, machine / "mixed")
    tensors = load_file(folder / WEIGHTS)
    more = {name.replace(".layers.0.", ".layers.1."): value for name, value in tensors.items() if "decoder" in name}
    save_file(tensors | more, folder / WEIGHTS, {"format": "pt"})  # transformers would leave out the second layer
    with pytest.raises(UserError, match=r"model\.safetensors: a Whisper of 1 layers of 16, a decoder of 2"):
        whisper_checkpoint("little", folder)


def test_every_size_is_known_by_its_shape() -> None:
    assert size_of(SIZES["large-v3-turbo"].shape) == "large-v3-turbo"
    assert size_of(SIZES["large-v3"].shape) == "large-v3"
    assert size_of(SIZES["large-v1"].shape) == "large-v1 or large-v2"


def test_a_size_beside_an_init_must_be_the_inits(tuned: Path, adapter: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for init in (tuned, adapter):
        assert find("", init, "").size == find("little", init, "").size == "little"
        with pytest.raises(UserError, match=r"model\.size: base: .*input init, is a Whisper little") as caught:
            find("base", init, "stage first")
        assert "leave size empty" in caught.value.fix
    monkeypatch.setitem(SIZES, "base", LITTLE)
    assert find("", None, "").base == find("base", None, "").base
    assert Model({"batch_size": 1}, {"name": "adamw", "lr": 0.1}).size == ""


# --- damaged ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("damage", [cut, Path.unlink, exchange_last_byte])
@pytest.mark.parametrize("name", ["model.bin", "tokenizer.json"])
def test_a_damaged_conversion_is_made_anew(tuned: Path, name: str, damage: Callable[[Path], None]) -> None:
    made = engine_folder("", tuned, FAST).folder
    whole = (made / name).read_bytes()
    written = (made / name).stat().st_mtime_ns
    assert engine_folder("", tuned, FAST).folder == made and (made / name).stat().st_mtime_ns == written
    damage(made / name)
    assert engine_folder("", tuned, FAST).folder == made and (made / name).read_bytes() == whole


@pytest.mark.parametrize("damage", [cut, Path.unlink, exchange_last_byte])
def test_a_damaged_merged_model_is_made_anew(adapter: Path, damage: Callable[[Path], None]) -> None:
    made = engine_folder("", adapter, PLAIN)
    whole = (made.folder / WEIGHTS).read_bytes()
    damage(made.folder / WEIGHTS)
    assert engine_folder("", adapter, PLAIN) == made and (made.folder / WEIGHTS).read_bytes() == whole


def test_a_saved_model_that_was_damaged_is_named_wherever_it_is_used(tuned: Path) -> None:
    noted = json.loads((tuned / "sha256.json").read_text())
    assert noted == {WEIGHTS: sha256_file(tuned / WEIGHTS)}
    uses: list[Callable[[], object]] = [
        lambda: engine_folder("", tuned, FAST),
        lambda: engine_folder("", tuned, PLAIN),
        lambda: find("", tuned, ""),
        lambda: load_recogniser(str(tuned), None, ""),
    ]
    for use in uses:
        use()
    exchange_last_byte(tuned / WEIGHTS)
    for use in uses:
        with pytest.raises(UserError, match=r"tuned/model\.safetensors: damaged, or exchanged: its SHA-256") as caught:
            use()
        assert "sha256.json" in caught.value.fix
    (tuned / "sha256.json").unlink()  # changed on purpose
    for use in uses:
        use()
    (tuned / "sha256.json").write_text("{")
    with pytest.raises(UserError, match=r"sha256\.json: damaged"):
        find("", tuned, "")


def test_a_damaged_adapter_is_named_wherever_it_is_used(adapter: Path, tmp_path: Path) -> None:
    for name in (ADAPTER_WEIGHTS, f"below/1/{ADAPTER_WEIGHTS}"):
        damaged = shutil.copytree(adapter, tmp_path / name.partition("/")[0])
        load(find("", damaged, ""))
        exchange_last_byte(damaged / name)
        with pytest.raises(UserError, match=rf"{name}: damaged, or exchanged"):
            engine_folder("", damaged, FAST)
        with pytest.raises(UserError, match=rf"{name}: damaged, or exchanged"):
            load(find("", damaged, ""))


@pytest.mark.parametrize(
    ("repository", "source", "weights"),
    [("Systran/faster-whisper-base", "tiny", "model.bin"), ("openai/whisper-base", "tiny_hf", WEIGHTS)],
)
def test_a_damaged_file_of_the_hubs_cache_is_named(
    machine: Path,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    repository: str,
    source: str,
    weights: str,
) -> None:
    monkeypatch.setitem(SIZES, "base", LITTLE)
    cache = machine / "hub" / f"models--{repository.replace('/', '--')}"
    snapshot, blobs = cache / "snapshots" / "abc", cache / "blobs"
    for folder in (snapshot, blobs, cache / "refs"):
        folder.mkdir(parents=True)
    (cache / "refs" / "main").write_text("abc")
    for file in request.getfixturevalue(source).iterdir():
        name = sha256_file(file)[: 64 if file.name == weights else 40]  # small files' names are git's own hashes
        shutil.copyfile(file, blobs / name)
        (snapshot / file.name).symlink_to(blobs / name)

    def use() -> Path:
        return whisper_weights("base").folder if source == "tiny" else whisper_checkpoint("base").folder

    assert use() == snapshot
    exchange_last_byte((snapshot / weights).resolve())
    with pytest.raises(UserError, match=r"damaged, or exchanged: its SHA-256") as caught:
        use()
    assert str((snapshot / weights).resolve()) in caught.value.fix


def test_another_hash_of_base_is_warned_of(
    tiny: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("HLAS_WHISPER_DIR", str(tiny))
    whisper_weights("base")
    assert "another conversion, another model, or damaged" in caplog.text


def test_hashes_are_of_all_files_or_of_those_named(tmp_path: Path) -> None:
    (tmp_path / "one").write_text("1")
    (tmp_path / "two").write_text("2")
    assert not whisper_hashes.intact(tmp_path)
    whisper_hashes.write_hashes(tmp_path, ["one"])
    (tmp_path / "two").write_text("3")
    assert whisper_hashes.intact(tmp_path)
    whisper_hashes.write_hashes(tmp_path)
    assert whisper_hashes.intact(tmp_path)
    (tmp_path / "two").write_text("2")
    assert not whisper_hashes.intact(tmp_path)


# --- one clear error each --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("tokenizer.json", '{"version": "1.0", "mod', r"tokenizer\.json: damaged: EOF"),
        ("config.json", '{"lang_ids"', r"config\.json: damaged, no JSON"),
        ("config.json", "[]", r"config\.json: damaged: no JSON object"),
        ("vocabulary.json", "[]", r"vocabulary\.json: damaged: 0 entries, and the model has \d+ tokens"),
        ("vocabulary.json", "[", r"vocabulary\.json: damaged, no JSON"),
    ],
)
def test_damaged_files_beside_ctranslate2s_weights_are_named(
    machine: Path, tiny: Path, name: str, content: str, says: str
) -> None:
    folder = shutil.copytree(tiny, machine / "damaged")
    (folder / name).write_text(content)
    with pytest.raises(UserError, match=says) as caught:
        Whisper(engine_folder("", folder, FAST).folder, FAST, "cs")
    assert "again" in caught.value.fix


def test_an_empty_vocabulary_is_named(machine: Path, tiny: Path) -> None:
    folder = shutil.copytree(tiny, machine / "damaged")
    entries = json.loads((folder / "vocabulary.json").read_text())
    (folder / "vocabulary.json").unlink()
    lines = folder / "vocabulary.txt"
    lines.write_text("\n".join(entries) + "\n")
    engine_folder("", folder, FAST)
    lines.write_text("\n".join(entries))
    engine_folder("", folder, FAST)
    for kept, count in (([], 0), (entries[:-1], len(entries) - 1)):
        lines.write_text("".join(f"{entry}\n" for entry in kept))
        with pytest.raises(UserError, match=rf"vocabulary\.txt: damaged: {count} entries"):
            engine_folder("", folder, FAST)


@pytest.mark.parametrize(
    ("content", "says"),
    [('{"d_model": 16', "damaged, no JSON"), ("3", "no JSON object"), ('{"d_model": 16}', "not the configuration")],
)
def test_a_damaged_config_of_hugging_faces_is_named(machine: Path, tiny_hf: Path, content: str, says: str) -> None:
    folder = shutil.copytree(tiny_hf, machine / "damaged")
    (folder / "config.json").write_text(content)
    for use in (lambda: whisper_checkpoint("little", folder), lambda: engine_folder("", folder, PLAIN)):
        with pytest.raises(UserError, match=rf"config\.json: .*{says}") as caught:
            use()
        assert "again" in caught.value.fix


@pytest.mark.parametrize(
    "changes", [{"below": None}, {"below": "1"}, {"below": -1}, {"sha256": None}, {"size": None}, {"size": "base.en"}]
)
def test_half_a_record_of_an_adapters_base_is_named(adapter: Path, changes: dict[str, Any]) -> None:
    edit(adapter / "base.json", **changes)
    for use in (base_of, chain, lambda folder: engine_folder("", folder, FAST)):
        with pytest.raises(UserError, match=r"base\.json: damaged: it must say") as caught:
            use(adapter)
        assert "again" in caught.value.fix
    (adapter / "base.json").write_text("{")
    with pytest.raises(UserError, match=r"base\.json: damaged, no JSON"):
        base_of(adapter)


def test_an_adapter_for_a_size_that_there_is_none_of_is_named(adapter: Path) -> None:
    (adapter / "base.json").unlink()
    edit(adapter / "adapter_config.json", base_model_name_or_path="openai/whisper-base.en")
    with pytest.raises(
        UserError, match=r"second: an adapter for 'openai/whisper-base\.en', which is no size"
    ) as caught:
        engine_folder("", adapter, FAST)
    assert "merge it into its base" in caught.value.fix


def test_an_adapter_whose_base_is_missing_is_named(adapter: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HLAS_WHISPER_HF_DIR")
    with pytest.raises(UserError, match=r"second: the adapter's base: Whisper little: no weights for training"):
        engine_folder("", adapter, FAST)


def test_the_command_line_checks_its_language_before_it_looks_for_weights(tmp_path: Path) -> None:
    (tmp_path / "clip.wav").touch()
    with pytest.raises(UserError, match=r"^--language: Whisper does not know the language 'hsb'") as caught:
        transcribe([tmp_path / "clip.wav"], "whisper-small", language="hsb")  # whose weights are not here
    assert "--language CODE" in caught.value.fix and "cs, pl, sk" in caught.value.fix
    assert "YAML" not in caught.value.fix
    with pytest.raises(UserError, match="language's YAML"):
        check_code("hsb", CODES, "a stage")


def test_the_stage_logs_the_weights_that_it_hears_with(
    bench: Bench, mini: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    bench.transcribe("heard", mini)
    assert "Whisper mini (a folder that the user gave) by faster-whisper" in caplog.text
    assert "Whisper base" not in caplog.text

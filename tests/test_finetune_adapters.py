"""LoRA adapters on a Whisper, one after another, merged and not; and what a fine-tuning refuses."""

import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from safetensors.numpy import load_file, save_file

from finetune_kit import LORA, SIZE, Bench, given, load, logits, on_base, tensors
from hlas.errors import UserError
from hlas.files import sha256_file
from hlas.manifests.rows import read_manifest, write_rows
from hlas.manifests.text import Language
from hlas.models import finetune_stage
from hlas.models.finetuning.options import Adapter, Lora
from hlas.models.training.options import KeepOutputs
from hlas.stage import Input
from train_kit import curve

pytest_plugins = ("whisper_kit", "finetune_kit")
BELOW = ("adapter_config.json", "adapter_model.safetensors")


def lora(epochs: int = 1, **keys: Any) -> finetune_stage.Params:
    """A training of an adapter that moves it far enough to be seen."""
    return given(epochs, lr=0.03, **{"adapter": LORA, **keys})


def near(one: Any, other: Any) -> bool:
    """Whether two models answer the same."""
    return float((logits(one) - logits(other)).abs().max()) <= 1e-4


def far(one: Any, other: Any) -> bool:
    """Whether two models answer so differently that `near` tells something."""
    return float((logits(one) - logits(other)).abs().max()) > 0.1


@pytest.fixture(scope="module")
def first(bench: Bench) -> Path:
    """The folder of an adapter on the base."""
    assert bench.train("first", lora(2))["saved"] == "adapter"
    return bench.model("first")


@pytest.fixture(scope="module")
def second(bench: Bench, first: Path) -> Path:
    """An adapter on the base with the first one merged."""
    bench.train("second", lora(), init=first)
    return bench.model("second")


@pytest.fixture(scope="module")
def merged(bench: Bench, first: Path) -> Path:
    """The second one again, and the whole model with it."""
    assert bench.train("merged", lora(merge=True), init=first)["saved"] == "adapter, merged"
    return bench.model("merged")


# --- adapters --------------------------------------------------------------------------------------------------------


def test_an_adapter_is_saved_alone_and_is_pefts(bench: Bench, first: Path) -> None:
    assert sorted(file.name for file in first.iterdir()) == [*BELOW, "base.json", "sha256.json"]
    base = {"size": SIZE, "sha256": sha256_file(bench.base / "model.safetensors"), "below": 0}
    assert json.loads((first / "base.json").read_text()) == base
    config = json.loads((first / BELOW[0]).read_text())
    assert (config["r"], config["lora_alpha"], config["base_model_name_or_path"]) == (4, 8, f"openai/whisper-{SIZE}")
    adapted = on_base(first, load(bench.base))
    assert far(adapted, load(bench.base))
    weights = load_file(first / BELOW[1])
    layers = {name.rpartition(".lora_")[0] for name in weights}
    # q, v, fc1 of two layers of the encoder, q and v twice and fc1 of two of the decoder
    assert len(layers) == 2 * 3 + 2 * 5 and all(".lora_" in name for name in weights)
    own = {name: value for name, value in adapted.get_base_model().state_dict().items() if "lora_" not in name}
    for name, value in tensors(bench.base).items():
        place = name if name in own else re.sub(r"\.(weight|bias)$", r".base_layer.\1", name)
        assert (own[place].numpy() == value).all()


def test_merged_it_is_a_whole_model_with_the_adapter_inside(bench: Bench, merged: Path, first: Path) -> None:
    assert {f.name for f in merged.iterdir()} == {f.name for f in bench.base.iterdir()} | {"adapter", "sha256.json"}
    below = on_base(merged / "adapter" / "below" / "1", load(bench.base)).merge_and_unload()
    assert near(load(merged), on_base(merged / "adapter", below))
    assert far(load(merged), load(bench.base))


def test_under_a_frozen_encoder_adapters_are_in_the_decoder_alone(bench: Bench) -> None:
    summary = bench.train("decoder", lora(freeze="encoder", keep_outputs=KeepOutputs()))
    weights = load_file(bench.model("decoder") / BELOW[1])
    assert weights and all(".decoder." in name for name in weights)
    assert summary["trainable"] == sum(value.size for value in weights.values())
    adapted, base = on_base(bench.model("decoder"), load(bench.base)), load(bench.base)
    encoders = (adapted.get_base_model().model.encoder, base.model.encoder)
    assert encoders[0].state_dict().keys() == encoders[1].state_dict().keys()
    assert far(adapted, base)


def test_two_stages_are_the_first_merged_and_the_second_on_it(bench: Bench, first: Path, second: Path) -> None:
    assert json.loads((second / "base.json").read_text())["below"] == 1
    for name in BELOW:
        assert (second / "below" / "1" / name).read_bytes() == (first / name).read_bytes()
    from hlas.models.finetuning.start import load as loaded
    from hlas.models.finetuning.start import on_base as found

    by_hand = on_base(second, on_base(first, load(bench.base)).merge_and_unload())
    ours = loaded(found(second, ""))
    assert near(ours, by_hand)
    assert far(ours, on_base(second, load(bench.base))) and far(ours, on_base(first, load(bench.base)))


def test_the_second_stage_alone_and_merged_are_one_training(bench: Bench, second: Path, merged: Path) -> None:
    key = ("train_loss", "dev_loss", "dev_wer")
    one, other = ([[row[k] for k in key] for row in curve(folder.parent)] for folder in (second, merged))
    assert one == other
    assert (second / BELOW[1]).read_bytes() == (merged / "adapter" / BELOW[1]).read_bytes()


def test_three_stages(bench: Bench, first: Path, second: Path) -> None:
    bench.train("third", lora(merge=True), init=second)
    third = bench.model("third") / "adapter"
    assert json.loads((third / "base.json").read_text())["below"] == 2
    for number, earlier in (("1", first), ("2", second)):
        assert (third / "below" / number / BELOW[1]).read_bytes() == (earlier / BELOW[1]).read_bytes()
    model = load(bench.base)
    for folder in (first, second, third):
        model = on_base(folder, model).merge_and_unload()
    assert near(load(bench.model("third")), model)
    assert far(model, load(bench.base))


def test_an_adapter_on_a_tuned_model_is_saved_with_it(bench: Bench, merged: Path) -> None:
    with pytest.raises(UserError, match=r"(?s)merge.*could not find these weights again.*merge: true"):
        bench.train("refused", lora(), init=merged)
    summary = bench.train("on-merged", lora(merge=True), init=merged)
    assert summary["saved"] == "adapter, merged" and far(load(bench.model("on-merged")), load(merged))
    assert not any(str(bench.lab.store) in f.read_text() for f in bench.model("on-merged").rglob("*.json"))


def test_both_engines_hear_an_adapter_as_the_validation_did(bench: Bench, second: Path, merged: Path) -> None:
    heard = {
        (folder.parent.name, engine): bench.texts(
            f"{engine}-{folder.parent.name}", folder, engine=engine, padding_s=1.0
        )
        for folder in (second, merged)
        for engine in ("transformers", "faster-whisper")
    }
    assert len({tuple(texts) for texts in heard.values()}) == 1, heard
    assert next(iter(heard.values())) != bench.texts("base", bench.base, engine="transformers", padding_s=1.0)


# --- bad input -------------------------------------------------------------------------------------------------------


def copied(folder: Path, target: Path) -> Path:
    shutil.copytree(folder, target)
    return target


def test_an_adapter_of_other_weights_is_refused(bench: Bench, first: Path, tmp_path: Path) -> None:
    other = copied(first, tmp_path / "other")
    record = json.loads((other / "base.json").read_text())
    (other / "base.json").write_text(json.dumps(record | {"sha256": "0" * 64}))
    with pytest.raises(UserError, match="adapter for base weights of SHA-256 000000000000"):
        bench.train("other", lora(), init=other)
    with pytest.raises(UserError, match="adapter for base weights of SHA-256 000000000000"):
        bench.texts("other-heard", other)


def test_another_programs_adapter_that_does_not_fit_is_refused(bench: Bench, first: Path, tmp_path: Path) -> None:
    import numpy as np

    wide, deep, odd = (copied(first, tmp_path / name) for name in ("wide", "deep", "odd"))
    for folder in (wide, deep, odd):
        (folder / "base.json").unlink()
        (folder / "sha256.json").unlink()
    assert bench.texts("foreign", wide)  # it fits, and says its base in peft's own way
    weights = load_file(first / BELOW[1])
    save_file({name: np.concatenate([value, value], -1) for name, value in weights.items()}, wide / BELOW[1])
    with pytest.raises(UserError, match=r"no adapter for this Whisper: .*size mismatch"):
        bench.train("wide", lora(), init=wide)
    save_file({name.replace(".layers.1.", ".layers.7."): value for name, value in weights.items()}, deep / BELOW[1])
    with pytest.raises(UserError, match=r"no adapter for this Whisper: .*layers\.[17]"):
        bench.train("deep", lora(), init=deep)
    config = json.loads((first / BELOW[0]).read_text())
    (odd / BELOW[0]).write_text(json.dumps(config | {"base_model_name_or_path": "someone/whisper"}))
    with pytest.raises(UserError, match="'someone/whisper', which is no Whisper of OpenAI's"):
        bench.train("odd", lora(), init=odd)
    (odd / BELOW[0]).write_text(
        json.dumps({"peft_type": "PROMPT_TUNING", "base_model_name_or_path": "openai/whisper-mini"})
    )
    with pytest.raises(UserError, match="PROMPT_TUNING"):
        bench.train("prompt", lora(), init=odd)


def test_folders_that_cannot_be_trained_are_refused(bench: Bench, tiny: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="a CTranslate2 folder, which cannot be trained"):
        bench.train("ct2", given(), init=tiny)
    cut = copied(bench.base, tmp_path / "cut")
    whole = (cut / "model.safetensors").read_bytes()
    (cut / "model.safetensors").write_bytes(whole[:-1000])
    with pytest.raises(UserError, match=r"damaged: \d+ bytes of \d+"):
        bench.train("cut", given(), init=cut)
    lacking = tensors(bench.base)
    del lacking["model.decoder.layers.1.fc1.weight"]
    save_file(lacking, cut / "model.safetensors", {"format": "pt"})
    with pytest.raises(
        UserError, match=r"not a whole Whisper of transformers: .*model\.decoder\.layers\.1\.fc1\.weight"
    ):
        bench.train("lacking", given(), init=cut)
    with pytest.raises(UserError, match="no Whisper in this folder"):
        bench.train("empty", given(), init=tmp_path)


def test_a_language_that_whisper_lacks_names_the_nearest(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    import finetune_kit

    monkeypatch.setattr(finetune_kit, "LANGUAGE", Language("hsb", "Upper Sorbian", tuple("abc")))
    with pytest.raises(UserError, match=r"(?s)does not know the language 'hsb'.*nearest that it knows: cs, pl, sk"):
        bench.train("hsb", given())


def rows_with(bench: Bench, folder: Path, split: str, **changes: Any) -> Input:
    """A manifest of the split with one more row, which is its first with changes."""
    source = bench.lab.split(split).path
    rows = [replace(row, audio_filepath=str(source.parent / row.audio_filepath)) for row in read_manifest(source)]
    write_rows(folder / f"{split}.jsonl", [*rows, replace(rows[0], **changes)])
    return Input(folder / f"{split}.jsonl", "manifests", split)


def test_clips_that_cannot_be_learnt_are_counted(bench: Bench, tmp_path: Path) -> None:
    rows = read_manifest(rows_with(bench, tmp_path, "train", text="a" * 224, raw_text="").path)
    odd = [replace(rows[0], text="b" * 222), replace(rows[0], duration=30.5), replace(rows[0], text=" ")]
    write_rows(tmp_path / "train.jsonl", [*rows, *odd])
    summary = bench.train(
        "rejects", given(1, trainer={"limit_train_batches": 1}), train=Input(tmp_path / "train.jsonl", "m", "train")
    )
    assert summary["rejects"] == {"train": {"too_many_tokens": 1, "too_long": 1, "empty_text": 1}, "dev": {}}
    assert summary["train_utterances"] == len(rows) - 1 + 1
    lines = (bench.lab.store / "rejects" / "rejects.tsv").read_text().splitlines()
    assert [line.split("\t")[2:] for line in lines[1:]] == [
        ["too_many_tokens", "225, more than 223"],
        ["too_long", "30.50 s, more than 30 s"],
        ["empty_text", "''"],
    ]


def test_a_dev_clip_with_more_text_than_fits_is_heard_all_the_same(bench: Bench, tmp_path: Path) -> None:
    dev = rows_with(bench, tmp_path, "dev", text="ab " * 300, raw_text="")
    summary = bench.train("long-dev", given(1, trainer={"limit_train_batches": 1}), dev=dev)
    assert summary["rejects"]["dev"] == {} and curve(bench.lab.store / "long-dev")[0]["dev_loss"] > 0


def test_a_training_that_diverges_leaves_weights_to_go_on_from(bench: Bench, first: Path) -> None:
    soaring = {"name": "sgd", "lr": 0.01, "sched": {"name": "ExponentialLR", "gamma": 1e12}}
    made = lora(6, model={"optim": soaring})
    for _ in range(2):  # the second goes on from the same checkpoint, and fails as the first
        with pytest.raises(UserError, match=r"the loss is|the weights are not numbers") as raised:
            bench.train("diverges", made, init=first)
    start = Path(re.search(r"init=(\S+) starts from the weights after epoch \d", raised.value.fix)[1])  # type: ignore[index]  # no match would fail here
    assert (start / "below" / "1").is_dir()
    bench.train("again", lora(), init=start)
    assert json.loads((bench.model("again") / "base.json").read_text())["below"] == 2
    whole = given(6, model={"optim": soaring})
    with pytest.raises(UserError) as raised:
        bench.train("diverges-whole", whole)
    start = Path(re.search(r"init=(\S+) starts", raised.value.fix)[1])  # type: ignore[index]  # no match would fail here
    assert bench.train("again-whole", given(1), init=start)["epochs"] == 1


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"model": {"size": "huge"}}, "no Whisper 'huge'"),
        ({"model": {"language": "hsb"}}, "does not know the language 'hsb'; the nearest: cs"),
        (
            {"model": {"spec_augment": {"freq_maks": 2}}},
            r"spec_augment.freq_maks: no such key; did you mean 'freq_masks'",
        ),
        ({"model": {"padding_s": 31}}, "padding_s is from 0 to 30"),
        ({"model": {"dropout": 1.0}}, "dropout and model.label_smoothing"),
        ({"merge": True}, "merge: there is no adapter"),
        ({"keep_outputs": KeepOutputs()}, "keep_outputs keeps what a frozen encoder gives"),
        (
            {"keep_outputs": KeepOutputs(), "freeze": "encoder", "model": {"spec_augment": {"freq_masks": 1}}},
            "kept outputs have no bands",
        ),
        ({"trainer": {"devices": 2}}, "tuned by one process"),
        ({"freeze": {"encoder_except_last": 0}}, "at least 1"),
    ],
)
def test_impossible_parameters_are_refused(bench: Bench, keys: Mapping[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        given(**keys)


def test_layers_that_there_are_none_of_are_refused(bench: Bench) -> None:
    with pytest.raises(ValueError, match=r"no layers 'q_projj'; did you mean 'q_proj'"):
        Lora(target_modules=("q_projj",))
    with pytest.raises(ValueError, match="r is at least 1"):
        Lora(r=0)
    with pytest.raises(UserError, match="has 2 blocks"):
        bench.train("blocks", given(freeze={"encoder_except_last": 3}))
    augmented = {"train_ds": {"augmentor": {"white_noise": {"prob": 1.0, "min_level": -50, "max_level": -30}}}}
    with pytest.raises(UserError, match="before white_noise could change it in every epoch"):
        bench.train("kept-noise", given(freeze="encoder", keep_outputs=KeepOutputs(), model=augmented))
    assert Adapter().lora.target_modules == ("q_proj", "v_proj")


def test_another_number_of_mel_bands_is_no_matter(bench: Bench, tmp_path: Path) -> None:
    import numpy as np

    large = copied(bench.base, tmp_path / "large")
    weights = tensors(large)
    weights["model.encoder.conv1.weight"] = np.resize(weights["model.encoder.conv1.weight"], (16, 128, 3))
    save_file(weights, large / "model.safetensors", {"format": "pt"})
    for name, key in (("config.json", "num_mel_bins"), ("processor_config.json", "feature_extractor")):
        config = json.loads((large / name).read_text())
        config[key] = 128 if key == "num_mel_bins" else config[key] | {"feature_size": 128}
        (large / name).write_text(json.dumps(config))
    bench.train("large", given(1, model={"size": ""}), init=large)
    assert bench.texts("large-heard", bench.model("large"), engine="transformers", padding_s=1.0)

"""The specs in models/: sizes, strides and work as the README's table and the papers have them; N2's encoder.

What Whisper's fine-tuning trains with, test_recipes.py checks; that all of them train, test_recipe_training.py.
"""

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from hlas.errors import UserError
from hlas.models.nemo_ctc import CtcModel
from hlas.models.nemo_quiet import import_asr
from hlas.models.targets import check_targets
from hlas.models.training.build import build_model
from hlas.models.training.job import Fit
from hlas.params import build_params, resolve_all
from hlas.paths import project_root
from hlas.stages import KINDS
from hlas.tokenizers import stage as tokenizer_stage
from hlas.yamls import read_extended
from train_kit import RATE, Lab, spoken

MODELS = project_root() / "models"


def load_tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("model_table", project_root() / "tools/model_table.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


TOOL = load_tool()
SPECS = {
    kind: sorted(p.stem for p in MODELS.glob("*.yaml") if TOOL.kind_of(read_extended(p).data) == kind)
    for kind in TOOL.ORDER
}
CTC_SPECS = SPECS["train"]


def spec(name: str) -> dict[str, Any]:
    data, problem = resolve_all(read_extended(MODELS / f"{name}.yaml").data, {})
    assert not problem
    return data


@pytest.fixture(scope="module")
def sizes() -> dict[str, Any]:
    """Every spec as it is counted now, in the table's order."""
    return {line.name: line for line in TOOL.rows()}


PARAMETERS = {  # millions, with 28 labels: as the papers and NeMo's model cards have them, but for the labels
    "quartznet_5x5": 6.7,
    "quartznet_10x5": 12.8,
    "quartznet_15x5": 18.9,
    "jasper_10x5": 333,
    "citrinet_256": 9.8,
    "citrinet_512": 36.5,
    "citrinet_1024": 142,
    "conformer_ctc_s": 13.0,
    "conformer_ctc_m": 30.5,
    "conformer_ctc_l": 121.5,
    "fastconformer_ctc_l": 115,
    "whisper_tiny": 37.8,  # as transformers counts; the paper says 39
    "whisper_base": 74,
    "whisper_small": 244,
    "whisper_medium": 769,
    "whisper_large_v3": 1550,
    "whisper_large_v3_turbo": 809,
}


@pytest.mark.parametrize(("name", "millions"), PARAMETERS.items())
def test_shipped_models_have_the_parameters_of_the_paper(name: str, millions: float, sizes: dict[str, Any]) -> None:
    assert sizes[name].size.parameters / 1e6 == pytest.approx(millions, rel=0.03)


def test_the_table_in_the_readme_is_what_is_counted_now(sizes: dict[str, Any]) -> None:
    assert all(SPECS.values())
    text = (MODELS / "README.md").read_text(encoding="utf-8")
    lines = text.partition(TOOL.START)[2].partition(TOOL.END)[0].strip().splitlines()[2:]
    shown = [tuple(cell.strip() for cell in line.strip("|").split("|")) for line in lines]
    counted = [line.cells() for line in sizes.values()]
    assert shown == counted, "run tools/model_table.py"
    assert all(float(cells[3]) > 0 for cells in counted)


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind, names in SPECS.items() for name in names])
def test_a_spec_is_for_one_kind_of_stage(kind: str, name: str) -> None:
    def fits(other: str) -> bool:
        params, errors = importlib.import_module(KINDS[other].module).Params, list[UserError]()
        return bool(build_params(params, "x", read_extended(MODELS / f"{name}.yaml"), (), {}, errors, "x.yaml"))

    assert [other for other in SPECS if fits(other)] == [kind]


def test_strides_are_those_of_the_papers(sizes: dict[str, Any]) -> None:
    strides = {"citrinet": 80, "contextnet": 80, "fastconformer": 80, "conformer": 40, "jasper": 20, "n2": 40}
    strides |= {"quartznet": 20, "quartznet_mini": 40, "whisper": 40}
    counted = {name: sizes[name].size.frame_ms for name in CTC_SPECS}
    assert counted == {name: strides.get(name, strides[name.partition("_")[0]]) for name in CTC_SPECS}


def test_convolutions_are_counted_as_by_hand(sizes: dict[str, Any]) -> None:
    """QuartzNet 5x5: every weight but batch norms' is used once a frame of its layer's rate, twice as multiply-add."""
    blocks = spec("quartznet_5x5")["model"]["encoder"]["jasper"]
    macs, before = 0, 64
    for block in blocks:
        width, repeats = block["filters"], block["repeat"]
        kernel = block["kernel"][0]
        for layer in range(repeats):
            inputs = before if layer == 0 else width
            macs += inputs * kernel + inputs * width if block.get("separable") else inputs * width * kernel
        if block["residual"]:
            macs += before * width
        before = width
    macs += before * 29
    assert sizes["quartznet_5x5"].size.flops_per_s == pytest.approx(2 * 50 * macs, rel=1e-3)


def test_attention_products_are_counted() -> None:
    """Whisper tiny: 23.2 GFLOPs a window in linear and convolution layers, and two products of every head a layer."""
    products = 4 * 2 * 2 * 1500**2 * 384
    assert TOOL.whisper_size("tiny").flops_per_s * 30 - products == pytest.approx(23.2e9, rel=0.01)


def test_recurrent_layers_are_counted() -> None:
    import_asr()
    import torch

    with TOOL._Counter() as counter:
        flops, _ = counter.flops_of(torch.nn.LSTM(8, 16), torch.zeros(10, 1, 8))
    assert flops == 2 * 10 * 4 * 16 * (8 + 16)


def test_a_spec_without_its_line_is_told(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text("name: x\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"x\.yaml: 0 header lines start with '# choose:'"):
        TOOL.chosen_for(path)
    with pytest.raises(ValueError, match="model table"):
        TOOL.with_table("# a README without markers", "")


NOVOGRAD = {"name": "novograd", "weight_decay": 0.001, "sched.name": "CosineAnnealing"}
ADAMW = {"name": "adamw", "betas": [0.9, 0.98], "weight_decay": 0.001}
NOAM = {**ADAMW, "lr": 2.0, "sched.name": "NoamAnnealing", "sched.warmup_steps": 10000, "sched.min_lr": 1e-6}
FAST = {**ADAMW, "lr": 1e-3, "sched.name": "CosineAnnealing", "sched.warmup_steps": 15000, "sched.min_lr": 1e-4}
QUARTZNET = {**NOVOGRAD, "lr": 0.01, "betas": [0.8, 0.5], "sched.min_lr": 0.0}
CITRINET = {
    **NOVOGRAD,
    "lr": 0.05,
    "betas": [0.8, 0.25],
    "sched.warmup_steps": 1000,
    "sched.min_lr": 1e-5,
}
CUTOUT = {"rect_masks": 5, "rect_time": 120, "rect_freq": 50}
MASKS = {"freq_masks": 2, "freq_width": 27, "time_width": 0.05}
RECIPES = {  # optimiser and masks as the headers cite them
    **dict.fromkeys(("quartznet_5x5", "quartznet_10x5", "quartznet_15x5", "jasper_10x5"), (QUARTZNET, CUTOUT)),
    **dict.fromkeys(("citrinet_256", "citrinet_512", "citrinet_1024"), (CITRINET, {**MASKS, "time_masks": 10})),
    "conformer_ctc_s": ({**NOAM, "sched.d_model": 176}, {**MASKS, "time_masks": 2}),
    "conformer_ctc_m": ({**NOAM, "sched.d_model": 256}, {**MASKS, "time_masks": 5}),
    "conformer_ctc_l": ({**NOAM, "sched.d_model": 512}, {**MASKS, "time_masks": 10}),
    "fastconformer_ctc_s": ({**FAST, "weight_decay": 0.0}, {**MASKS, "time_masks": 2}),
    "fastconformer_ctc_m": (FAST, {**MASKS, "time_masks": 5}),
    "fastconformer_ctc_l": (FAST, {**MASKS, "time_masks": 10}),
    "contextnet_s": (
        {**NOVOGRAD, "lr": 0.05, "betas": [0.9, 0.0], "sched.warmup_steps": 5000, "sched.min_lr": 1e-6},
        {**MASKS, "time_masks": 2},
    ),
    "n2": ({**NOAM, "sched.d_model": 256}, {**MASKS, "time_masks": 2}),
}


@pytest.mark.parametrize(("name", "recipe"), RECIPES.items())
def test_specs_keep_the_values_that_their_headers_cite(
    name: str, recipe: tuple[dict[str, Any], dict[str, Any]]
) -> None:
    model = spec(name)["model"]
    optim, masks = recipe
    schedule = model["optim"].pop("sched")
    found = model["optim"] | {f"sched.{key}": value for key, value in schedule.items()}
    found.pop("sched.warmup_ratio", None)  # QuartzNet's, which is ours
    assert found == optim
    assert {key: value for key, value in model["spec_augment"].items() if key != "_target_"} == masks


@pytest.mark.parametrize("name", CTC_SPECS)
def test_specs_name_only_classes_of_the_allow_list(name: str) -> None:
    check_targets(spec(name))


def built(lab: Lab, name: str, encoder: dict[str, Any], tokenizer: tokenizer_stage.Params) -> Any:
    """A spec's model on tiny data, its encoder cut down."""
    config = spec(name)["model"]
    config["encoder"] |= encoder
    config["decoder"] |= {"feat_in": config["encoder"]["d_model"]}
    config["train_ds"].pop("augmentor", None)
    labels = tokenizer_stage.read_labels(lab.tokenizer(tokenizer).path)
    train, dev = (lab.split(split).path for split in ("train", "dev"))
    job = Fit(config, {"max_epochs": 1}, "32", 1, train, dev, labels, lab.store)
    return build_model(job, None)


@pytest.mark.parametrize("name", ["conformer_ctc_s", "fastconformer_ctc_s", "n2"])
@pytest.mark.parametrize("tokenizer", [tokenizer_stage.Params("char"), tokenizer_stage.Params("bpe", 8)])
def test_the_tokenizer_decides_between_characters_and_subwords(
    lab: Lab, name: str, tokenizer: tokenizer_stage.Params
) -> None:
    model = built(lab, name, {"n_layers": 1, "d_model": 16}, tokenizer)
    assert type(model).__name__ == ("EncDecCTCModel" if tokenizer.type == "char" else "EncDecCTCModelBPE")
    ctc = CtcModel.wrap(model, "cpu")
    assert len(ctc.vocabulary.tokens) == (4 if tokenizer.type == "char" else 8)
    (log_probs,) = ctc.log_probs([spoken("abc")])
    assert log_probs.shape[1] == len(ctc.vocabulary.tokens) + 1
    np.testing.assert_allclose(np.exp(log_probs).sum(axis=1), 1.0, rtol=1e-4)


# --- N2's encoder


@pytest.fixture(scope="module")
def encoder() -> Any:
    import_asr()
    import torch

    from hlas.models.modules.transformer_encoder import TransformerEncoder

    torch.manual_seed(1)
    return TransformerEncoder(feat_in=20, n_layers=2, d_model=16, n_heads=2, dropout=0.0)


def encode(encoder: Any, clips: list[Any]) -> tuple[Any, list[int]]:
    """Hidden states (B, d_model, T') of clips (bands, frames), padded with noise that nothing may read."""
    import torch

    lengths = torch.tensor([clip.shape[1] for clip in clips])
    batch = 100 * torch.randn(len(clips), clips[0].shape[0], int(lengths.max()))
    for i, clip in enumerate(clips):
        batch[i, :, : clip.shape[1]] = clip
    out, frames = encoder(audio_signal=batch, length=lengths)
    return out, frames.tolist()


@pytest.mark.parametrize("training", [True, False])  # torch computes the two in different ways
def test_a_clip_does_not_depend_on_its_batch(encoder: Any, training: bool) -> None:
    import torch

    torch.manual_seed(2)
    encoder.train(training)
    clips = [torch.randn(20, frames) for frames in (1, 7, 37, 61, 64)]
    with torch.set_grad_enabled(training):
        together, frames = encode(encoder, clips)
        assert frames == [-(-clip.shape[1] // 4) for clip in clips] == [1, 2, 10, 16, 16]
        for i, clip in enumerate(clips):
            alone, _ = encode(encoder, [clip])
            torch.testing.assert_close(together[i, :, : frames[i]], alone[0], atol=1e-5, rtol=1e-4)
            assert not together[i, :, frames[i] :].any()


def test_a_frame_knows_where_it_stands_and_hears_all_others(encoder: Any) -> None:
    import torch

    torch.manual_seed(3)
    encoder.eval()
    clip = torch.randn(20, 64)
    one, _ = encode(encoder, [clip])
    constant, _ = encode(encoder, [torch.ones(20, 64)])
    assert (constant[0, :, 5] - constant[0, :, 9]).abs().max() > 1e-3  # the same input, other positions
    changed = clip.clone()
    changed[:, :4] += 1.0
    other, _ = encode(encoder, [changed])
    assert (one - other).abs().amax(dim=(0, 1)).min() > 1e-6


def test_layers_start_with_weights_of_their_own(encoder: Any) -> None:
    first, second = (dict(layer.named_parameters()) for layer in encoder.layers)
    assert first and all((first[key] - second[key]).abs().max() > 0 for key in first if key.endswith("proj_weight"))


def test_positions_are_the_sinusoids_of_the_paper() -> None:
    import_asr()
    from hlas.models.modules.transformer_encoder import positions

    table = positions(50, 8).numpy()
    for position in (0, 1, 49):
        for i in range(4):
            angle = position / 10000 ** (2 * i / 8)
            assert table[position, 2 * i : 2 * i + 2] == pytest.approx([np.sin(angle), np.cos(angle)], abs=1e-5)


def test_sizes_that_do_not_fit_are_refused() -> None:
    import_asr()
    from hlas.models.modules.transformer_encoder import TransformerEncoder

    with pytest.raises(ValueError, match="d_model 18 is not even, or no multiple of n_heads 4"):
        TransformerEncoder(feat_in=20, n_layers=1, d_model=18, n_heads=4)


def test_n2_is_restored_from_its_file(lab: Lab) -> None:
    model = built(lab, "n2", {"n_layers": 1, "d_model": 16}, tokenizer_stage.Params("char"))
    path = lab.store / "n2.nemo"
    model.save_to(str(path))
    clip = spoken("ab c")
    (before,) = CtcModel.wrap(model, "cpu").log_probs([clip])
    restored = CtcModel.load(path, "cpu")
    (after,) = restored.log_probs([clip])
    np.testing.assert_allclose(before, after, atol=1e-5)
    assert restored.vocabulary.frame_s == pytest.approx(0.04)
    assert len(after) == pytest.approx(len(clip) / RATE / 0.04, abs=2)

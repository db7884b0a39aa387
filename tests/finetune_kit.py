"""What the tests of `finetune` share: a Whisper of two layers a side, tones to tune it on, and what comes of it.

Not a test: a plugin of pytest that they name, beside whisper_kit.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from hlas.manifests.rows import read_hypotheses, read_manifest, write_rows
from hlas.manifests.text import Language
from hlas.models import finetune_stage, transcribe_stage
from hlas.models.finetuning.options import Adapter, Lora, Model
from hlas.models.whisper_sizes import SIZES, Size
from hlas.stage import Input, Stage, Summary
from train_kit import Lab, curve, train_until_killed, write_split
from whisper_kit import END, WIDTH

LANGUAGE = Language("xx", "tones", tuple("abc"), whisper_code="cs")
WEIGHTS = "model.safetensors"
SPACE = 220  # its token; that of '!' is 0, and the other visible characters follow
LONGEST = 24  # tokens, prompt included, that the base writes before it ends
SIZE = "mini"  # the tests' own, beside OpenAI's
MINI = Size(2, WIDTH, 2)
# windows of 2 s and of 4 s
TRAIN = ["ab ca", "ba", "c ab ba ca ab", "bca a", "cab ba", "a b c", "ca ba ab ca bc", "abc"]
DEV = ["ba ca", "abc", "ab ca bc ba ca"]
NUMBERS = ("train_loss", "dev_loss", "dev_wer", "dev_cer")  # of a curve, without its times
LORA = Adapter(Lora(r=4, alpha=8, dropout=0.0, target_modules=("q_proj", "v_proj", "fc1")))


def write_mini(tiny: Path, folder: Path) -> None:
    """The tiny model's Hugging Face folder with a second layer a side, much like the first, and short texts."""
    rng = np.random.default_rng(3)
    tensors = load_file(tiny / WEIGHTS)
    for name, value in list(tensors.items()):
        if ".layers.0." in name:
            noise = 0.1 * rng.standard_normal(value.shape)
            tensors[name.replace(".layers.0.", ".layers.1.")] = value + noise.astype(np.float32)
    words = tensors["model.decoder.embed_tokens.weight"]
    quiet = np.ones(len(words), bool)
    quiet[[ord(letter) - ord("!") for letter in "abcABC."] + [SPACE, END]] = False
    words[quiet] *= 0.02  # its texts are of letters, and end, before it is tuned, too
    words[END] /= 3
    tensors["model.decoder.embed_positions.weight"][LONGEST:] += 1000 * words[END] / np.linalg.norm(words[END])
    for file in tiny.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    save_file(tensors, folder / WEIGHTS, {"format": "pt"})
    config = json.loads((tiny / "config.json").read_text())
    layers = dict.fromkeys(("encoder_layers", "decoder_layers", "num_hidden_layers"), 2)
    (folder / "config.json").write_text(json.dumps(config | layers))


@pytest.fixture(scope="session")
def mini(tiny_hf: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mini-whisper")
    write_mini(tiny_hf, folder)
    return folder


def make_tones(store: Path) -> Lab:
    """A store whose corpus has a written form beside the normalised one."""
    folder = store / "manifests"
    folder.mkdir()
    for split, texts in (("train", TRAIN), ("dev", DEV)):
        write_split(folder, split, texts)
        path = folder / f"{split}.jsonl"
        write_rows(path, [replace(row, raw_text=row.text.capitalize() + ".") for row in read_manifest(path)])
    return Lab(store)


@dataclass(frozen=True)
class Bench:
    """A store, and a base that is found by the name of its size."""

    lab: Lab
    base: Path

    def train(self, name: str, given: finetune_stage.Params, init: Path | None = None, **inputs: Input) -> Summary:
        """Run the stage, in the folder `self.lab.store / name`; the same call as a Lab's."""
        given_inputs = {"train": self.lab.split("train"), "dev": self.lab.split("dev"), **inputs}
        if init:
            given_inputs["init"] = Input(init)
        return finetune_stage.run(given, self._stage(name, given_inputs))

    def model(self, name: str) -> Path:
        """What a stage made."""
        return self.lab.store / name / "model"

    def texts(self, name: str, weights: Path, split: str = "dev", **options: Any) -> list[str]:
        """What the transcribe stage hears, greedily and without a second try, in a split, as Whisper writes it."""
        self.transcribe(name, weights, split, **options)
        return [h.raw_pred_text for h in read_hypotheses(self.lab.store / name / f"{split}.jsonl")]

    def transcribe(self, name: str, weights: Path, split: str = "dev", **options: Any) -> Path:
        """Run the transcribe stage; returns its hypotheses."""
        plain = {"beam_size": 1, "temperatures": (0.0,), "log_prob_threshold": -99.0}
        given = transcribe_stage.Params(
            device="cpu", compute_type="float32", compression_ratio_threshold=999.0, **plain, **options
        )
        stage = self._stage(name, {"data": self.lab.split(split), "weights": Input(weights)})
        transcribe_stage.run(given, stage)
        return stage.folder / f"{split}.jsonl"

    def _stage(self, name: str, inputs: Mapping[str, Input]) -> Stage:
        return replace(self.lab.stage(name, **inputs), language=LANGUAGE)


@pytest.fixture(scope="module")
def bench(mini: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A store of tones; hlas finds the base as a size, and keeps what it merges and converts in a cache of its own."""
    folder = tmp_path_factory.mktemp("tuning")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        patch.setenv("HLAS_WHISPER_HF_DIR", str(mini))
        patch.setitem(SIZES, SIZE, MINI)
        yield Bench(make_tones(folder), mini)


def tune_until_killed(bench: Bench, name: str, given: finetune_stage.Params, epoch: int, batch: int) -> None:
    """Train from the base in a process of its own, which is killed as that batch of that epoch begins."""
    SIZES[SIZE] = MINI
    train_until_killed(bench, name, given, bench.base, epoch, batch)  # type: ignore[arg-type]  # trains as a Lab does


def given(
    epochs: int = 2,
    *,
    model: Mapping[str, Any] | None = None,
    trainer: Mapping[str, Any] | None = None,
    lr: float = 0.01,
    **keys: Any,
) -> finetune_stage.Params:
    """Parameters of a short training in short windows; `model`, `trainer` and `keys` change them."""
    plain: dict[str, Any] = {
        "train_ds": {"batch_size": 4, "num_workers": 0},
        "optim": {"name": "adamw", "lr": lr, "weight_decay": 0.01},
        "size": SIZE,
        "padding_s": 1.0,
        "transcript": "text",
    }
    keys = {"precision": "32", "seed": 3, "freeze": "none"} | keys
    return finetune_stage.Params(
        Model(**(plain | dict(model or {}))), {"max_epochs": epochs, "accelerator": "cpu"} | dict(trainer or {}), **keys
    )


def module(folder: Path, params: finetune_stage.Params) -> Any:
    """The Lightning module of a training that starts from that folder, without its data."""
    from hlas.models.finetuning.module import TunedWhisper
    from hlas.models.finetuning.start import find
    from hlas.models.finetuning.start import load as load_found
    from hlas.models.whisper_transformers import read_tokenizer

    found = find("", folder, "")
    return TunedWhisper(load_found(found), read_tokenizer(folder), asdict(params.model), "cs")


def tensors(folder: Path) -> dict[str, Any]:
    """The weights in a folder of transformers."""
    return dict(load_file(folder / WEIGHTS))


def changed(bench: Bench, name: str) -> set[str]:
    """The tensors of the saved model that are not the base's."""
    base, tuned = tensors(bench.base), tensors(bench.model(name))
    assert base.keys() == tuned.keys()
    return {key for key in base if not np.array_equal(base[key], tuned[key])}


def numbers(bench: Bench, name: str) -> list[list[float]]:
    """The curve without its times."""
    return [[row[key] for key in NUMBERS] for row in curve(bench.lab.store / name)]


def same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether they are the same weights, to the last bit."""
    return one.keys() == other.keys() and all(np.array_equal(one[name], other[name]) for name in one)


def logits(whisper: Any, seconds: float = 4.0) -> Any:
    """What a model of transformers answers to some noise and some tokens, (1, 6, vocabulary)."""
    import torch

    torch.manual_seed(5)
    frames = round(100 * seconds)
    features = torch.zeros(1, whisper.config.num_mel_bins, 3000)
    features[:, :, :frames] = torch.randn(1, whisper.config.num_mel_bins, frames)
    with torch.inference_mode():
        return whisper.eval()(features, decoder_input_ids=torch.tensor([[50258, 50283, 50359, 50363, 65, 66]])).logits


def load(folder: Path) -> Any:
    """The model of transformers in a folder, float32."""
    from transformers import WhisperForConditionalGeneration

    return WhisperForConditionalGeneration.from_pretrained(str(folder), local_files_only=True)


def on_base(folder: Path, base: Any) -> Any:
    """A model with the adapter of a folder around it, not merged: peft's own loading."""
    from peft import PeftModel

    return PeftModel.from_pretrained(base, str(folder), local_files_only=True)

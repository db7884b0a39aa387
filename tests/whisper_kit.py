"""What the tests of Whisper share: a model small enough, in both forms, and some noise for it to hear.

Not a test: a plugin of pytest that they name.
"""

import numpy as np
import pytest
import soundfile
from safetensors.numpy import load_file, save_file

from hlas.models.whisper_convert import convert
from hlas.models.whisper_sizes import Size

WIDTH = 16
END = 50257  # token of the end of a text
WORDS = 60  # that the tiny model can say


def noise(seconds, seed=0):
    """So many seconds of noise, (samples,), float32, 16 kHz."""
    return (0.1 * np.random.default_rng(seed).standard_normal(int(16000 * seconds))).astype(np.float32)


def write_tiny(folder):
    """Write a CTranslate2 folder of Whisper's form: one layer a side, random weights, a few words, the end of text."""
    from ctranslate2.specs import WhisperSpec
    from faster_whisper.tokenizer import _LANGUAGE_CODES
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = [*letters, *(f"Ġw{i}" for i in range(len(letters), 50256)), ""]  # '' is what makes it multilingual
    tasks = ("translate", "transcribe", "startoflm", "startofprev", "nospeech", "notimestamps")
    names = ("endoftext", "startoftranscript", *(c for c in _LANGUAGE_CODES if c != "yue"), *tasks)
    special = [f"<|{name}|>" for name in names] + [f"<|{i * 0.02:.2f}|>" for i in range(1501)]
    vocabulary = [*words, *special]
    end, first_time = len(words), vocabulary.index("<|0.00|>")

    spec = WhisperSpec(1, 2, 1, 2)
    rng = np.random.default_rng(0)

    def values(*shape):
        return (rng.standard_normal(shape) * 0.5).astype(np.float32)

    def linear(layer, inputs, outputs):
        layer.weight, layer.bias = values(outputs, inputs), values(outputs)

    def norm(layer):
        layer.gamma, layer.beta = np.ones(WIDTH, np.float32), np.zeros(WIDTH, np.float32)

    spec.encoder.conv1.weight, spec.encoder.conv1.bias = values(WIDTH, 80, 3), values(WIDTH)
    spec.encoder.conv2.weight, spec.encoder.conv2.bias = values(WIDTH, WIDTH, 3), values(WIDTH)
    for side, positions in ((spec.encoder, 1500), (spec.decoder, 448)):
        side.position_encodings.encodings = values(positions, WIDTH)
        norm(side.layer_norm)
        (layer,) = side.layer
        norm(layer.self_attention.layer_norm)
        linear(layer.self_attention.linear[0], WIDTH, 3 * WIDTH)
        linear(layer.self_attention.linear[1], WIDTH, WIDTH)
        norm(layer.ffn.layer_norm)
        linear(layer.ffn.linear_0, WIDTH, 4 * WIDTH)
        linear(layer.ffn.linear_1, 4 * WIDTH, WIDTH)
    cross = spec.decoder.layer[0].attention
    norm(cross.layer_norm)
    for layer, outputs in zip(cross.linear, (WIDTH, 2 * WIDTH, WIDTH), strict=True):
        linear(layer, WIDTH, outputs)
    spec.decoder.embeddings.weight = values(len(vocabulary), WIDTH)
    linear(spec.decoder.projection, WIDTH, len(vocabulary))
    bias = np.full(len(vocabulary), -40, np.float32)
    bias[len(letters) : len(letters) + WORDS] = 0
    bias[end] = 3
    spec.decoder.projection.bias = bias
    spec.register_vocabulary(vocabulary)
    spec.config.lang_ids = [vocabulary.index(f"<|{c}|>") for c in _LANGUAGE_CODES if c != "yue"]
    spec.config.suppress_ids, spec.config.suppress_ids_begin, spec.config.alignment_heads = [], [end], [(0, 0)]
    spec.validate()
    spec.save(str(folder))

    tokenizer = Tokenizer(models.BPE({word: i for i, word in enumerate(words)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in special])
    tokenizer.save(str(folder / "tokenizer.json"))
    assert first_time + 1501 == len(vocabulary)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    """A CTranslate2 folder of the tests' own Whisper."""
    folder = tmp_path_factory.mktemp("tiny-whisper")
    write_tiny(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_hf(tiny, tmp_path_factory):
    """A Hugging Face folder of it, without the bias that makes it short-spoken."""
    folder = tmp_path_factory.mktemp("tiny-whisper-hf")
    convert(tiny, folder, Size(1, WIDTH, 2))
    tensors = load_file(folder / "model.safetensors")
    tensors["model.decoder.embed_tokens.weight"][END] *= 3  # else hardly a text ends before the longest that may be
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    return folder


@pytest.fixture(scope="session")
def noises(tmp_path_factory):
    """Six recordings of a second or so; the last two are the same."""
    folder = tmp_path_factory.mktemp("noises")
    paths = [folder / f"n{i}.wav" for i in range(6)]
    for i, path in enumerate(paths):
        seed = min(i, 4)
        soundfile.write(path, 0.1 * np.random.default_rng(seed).standard_normal(16000 + 800 * seed), 16000)
    return paths

"""Fixtures of several test modules: a small Common Voice release with sound, its manifests, a store to train in."""

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

# Before the first import that starts threads, and for the processes that tests start: sums then come out the same to
# the last bit in all of them, whatever CTranslate2 makes of the number of threads, and nothing spins beside another.
os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
import pytest
import soundfile

from hlas.manifests.stage import Params, run
from hlas.manifests.text import Language
from hlas.stage import Input, Stage, Summary
from hlas.tokenizers import stage as tokenizer_stage
from train_kit import Lab, make_lab

LANGUAGE = Language("xx", "test", tuple("abcdefghijklmnopqrstuvwxyz"))
COLUMNS = ("client_id", "path", "sentence_id", "sentence", "age", "gender", "accents", "locale")
OTHER_COLUMNS = ("up_votes", "down_votes", "segment")
OTHERS = ("2", "0", "")  # their usual values


def write_mp3(path: Path, seconds: float = 1.0) -> None:
    """A tone, different for each name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pitch = 5 + sum(path.stem.encode()) % 17 / 10
    soundfile.write(path, 0.3 * np.sin(np.arange(int(16000 * seconds)) / pitch), 16000, format="MP3")


@pytest.fixture
def mp3() -> Callable[..., None]:
    """`mp3(path, seconds)` writes a clip."""
    return write_mp3


@pytest.fixture
def release() -> Callable[..., Path]:
    """`release(folder, {table: [(speaker, path, sentence, *others)]})` writes a release with a clip for every row.

    `others`: up_votes, down_votes, segment. Clips in `missing` are left out.
    """

    def build(folder: Path, tables: Mapping[str, Sequence[Sequence[str]]], missing: Sequence[str] = ()) -> Path:
        (folder / "clips").mkdir(parents=True, exist_ok=True)
        for table, lines in tables.items():
            rows = ["\t".join(COLUMNS + OTHER_COLUMNS)]
            for speaker, path, sentence, *others in lines:
                values = (speaker, path, f"id-{path}", sentence, "teens", "", "Budyšin", "xx")
                rows.append("\t".join((*values, *others, *OTHERS[len(others) :])))
                clip = folder / "clips" / path
                if path not in missing and ".." not in path and not clip.exists():
                    write_mp3(clip)
            (folder / f"{table}.tsv").write_text("\n".join([*rows, ""]), encoding="utf-8")
        return folder

    return build


@pytest.fixture
def make() -> Callable[..., Summary]:
    """`make(release, folder, params, language, workers)` runs the manifests stage."""

    def stage(
        source: Path, out: Path, params: Params | None = None, language: Language = LANGUAGE, workers: int = 1
    ) -> Summary:
        out.mkdir(exist_ok=True)
        inputs = {"release": (Input(source),)}
        log = logging.getLogger("test")
        return run(params or Params(), Stage("manifests", "manifests", out, inputs, language, log, workers))

    return stage


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    """A store whose corpus has eight utterances to train on and two dev ones."""
    return make_lab(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def tokenizer(lab: Lab) -> Input:
    """The corpus's characters."""
    return lab.tokenizer(tokenizer_stage.Params("char"))

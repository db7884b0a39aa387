"""Every YAML of lm/ is read by its stage, has a header, and the README's worked example is what the code computes."""

import re
from pathlib import Path
from typing import Any

import pytest

from hlas.decode import rescore_stage
from hlas.decode import stage as decode_stage
from hlas.decode.lm_score import LmScorer
from hlas.errors import UserError
from hlas.lm import ngram
from hlas.lm import stage as lm_stage
from hlas.params import build_params
from hlas.paths import project_root
from hlas.yamls import read_extended

FOLDER = project_root() / "lm"
SPECS = sorted(FOLDER.glob("*.yaml"))
READERS = {
    "word": lm_stage.Params,
    "token": lm_stage.Params,
    "beam": decode_stage.Params,
    "rescore": rescore_stage.Params,
}


def read(path: Path) -> Any:
    document, errors = read_extended(path), list[UserError]()
    built = build_params(READERS[path.stem.partition("_")[0]], "stage", document, (), {}, errors, str(path))
    assert not errors and built is not None, errors
    return built[0]


def test_there_are_specs() -> None:
    assert {"word_4gram", "token_6gram", "beam_100", "rescore"} <= {path.stem for path in SPECS}


@pytest.mark.parametrize("path", SPECS, ids=lambda path: path.stem)
def test_a_spec_is_read_and_says_how_to_run_it(path: Path) -> None:
    read(path)
    header = [line for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("#")]
    assert any(line.startswith("# Run:   hlas run recipes/") for line in header)
    assert any(line.startswith("# Needs: ") for line in header)
    assert path.name in (FOLDER / "README.md").read_text(encoding="utf-8")


def test_long_lists_differ_from_the_usual_search_in_their_length_only() -> None:
    usual, long = (read(FOLDER / f"{name}.yaml") for name in ("beam_100", "beam_nbest"))
    assert long.nbest == 100 and long.options().width == usual.width and long.grid == usual.grid


def test_the_readmes_example_is_computed(tmp_path: Path) -> None:
    try:
        programs = ngram.find_kenlm()
    except UserError as error:
        pytest.skip(f"lmplz is not here and cannot be built: {error}")
    readme = (FOLDER / "README.md").read_text(encoding="utf-8")
    sentences = re.search(r"3-gram of six\s+sentences \(\*(.*?)\*\)", readme, re.DOTALL)
    assert sentences
    text = [" ".join(sentence.split()) for sentence in sentences[1].split(",")]
    assert len(text) == 6
    (tmp_path / "text").write_text("".join(f"{sentence}\n" for sentence in text))
    arpa = ngram.lm_file(tmp_path, "arpa")
    ngram.count_ngrams(programs, tmp_path / "text", arpa, order=3)
    ngram.write_words(ngram.lm_file(tmp_path, "unigrams"), ngram.read_words(arpa))
    scorer = LmScorer(ngram.find_lm(tmp_path), unk_score_offset=-10.0)

    rows = re.findall(
        r"^\| ([a-z ]+) \| (-[\d.]+) \| (-[\d.]+) \| (\d) \| (.*?) \| (.*?) \| (.*?) \|$", readme, re.MULTILINE
    )
    assert len(rows) == 4
    table = []
    for reading, acoustic, lm, words, *cells in rows:
        assert scorer(reading) == pytest.approx(float(lm), abs=0.005) and len(reading.split()) == int(words)
        computed = [
            float(acoustic) + alpha * scorer(reading) + beta * int(words)
            for alpha, beta in ((0, 0), (0.5, 1), (0.5, 4))
        ]
        assert [f"{value:.2f}" for value in computed] == [cell.strip("*") for cell in cells]
        table.append((computed, ["*" in cell for cell in cells]))
    for column in range(3):
        best = max(range(4), key=lambda i: table[i][0][column])
        assert [row[1][column] for row in table] == [i == best for i in range(4)]

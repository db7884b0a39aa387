"""N-gram models with KenLM: find or build its programs, count, write the binary, read a model's words.

An LM folder holds `lm.arpa` (text), `lm.bin` (memory-mapped by the searches), `unigrams.txt` (its words) and `lm.json`
(what its words are). A beam search that gets the binary without the word list is far worse, as it cannot tell the
beginning of a word from noise.
"""

import logging
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from hlas.errors import UserError
from hlas.files import atomic_text, read_json, write_json
from hlas.paths import project_root
from hlas.stages import KINDS

LOG = logging.getLogger("hlas")
MAX_ORDER = 6  # KENLM_MAX_ORDER of the programs that we build and of the Python package
SORT_MEMORY = "1G"  # lmplz would take 80 % of the machine; beyond this it sorts on disk
QUANTISE_BITS = range(2, 26)  # what build_binary takes for -q
DESCRIPTION = "lm.json"
SPECIAL = frozenset({"<s>", "</s>", "<unk>"})
_ERROR_LINES = 4


@dataclass(frozen=True, slots=True)
class Kenlm:
    """KenLM's programs."""

    lmplz: Path
    build_binary: Path


@dataclass(frozen=True, slots=True)
class LmFiles:
    """The files of an LM folder that a search reads."""

    model: Path  # binary, or ARPA where the folder has no binary
    unigrams: Path
    arpa: Path | None = None  # None where the folder has only the binary
    unit: str = "word"  # what the model's words are: 'word', or 'token' (labels of a CTC model in NeMo's encoding)
    tokens: tuple[str, ...] = ()  # of unit 'token': the labels, in the order of their numbers

    def words(self) -> list[str]:
        """The words the model knows, in the file's order."""
        try:
            lines = self.unigrams.read_text(encoding="utf-8").split("\n")
        except UnicodeDecodeError as error:
            raise UserError(str(self.unigrams), f"not UTF-8: {error}", "one word a line, as UTF-8 text") from error
        return [word for line in lines if (word := line.strip(" \t\r"))]  # a token may be another kind of space


@dataclass(frozen=True, slots=True)
class Counted:
    """What lmplz made of a text."""

    ngrams: tuple[int, ...]  # number of n-grams of each order, from 1, after pruning
    fallback_orders: tuple[int, ...]  # orders whose discounts could not be estimated from so little text


def kenlm_folder() -> Path:
    """Folder of the programs that tools/install_kenlm.sh builds: HLAS_KENLM, else .kenlm in the checkout."""
    return Path(os.environ.get("HLAS_KENLM") or project_root() / ".kenlm")


def find_programs() -> Kenlm | None:
    """KenLM's programs where they are: HLAS_KENLM's bin/ if that is set, else PATH, else .kenlm/bin."""
    built = str(kenlm_folder() / "bin")
    for path in (built,) if os.environ.get("HLAS_KENLM") else (None, built):
        lmplz, build_binary = (shutil.which(name, path=path) for name in ("lmplz", "build_binary"))
        if lmplz and build_binary:
            return Kenlm(Path(lmplz), Path(build_binary))
    return None


def find_kenlm() -> Kenlm:
    """KenLM's programs, built first if they are nowhere; raises UserError with the builder's last words."""
    if found := find_programs():
        return found
    LOG.info("KenLM's lmplz is not here: building it into %s (a minute or two)", kenlm_folder())
    script = project_root() / "tools" / "install_kenlm.sh"
    done = subprocess.run(["bash", str(script)], capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if done.returncode == 0 and (found := find_programs()):
        return found
    raise UserError(str(script), f"cannot build lmplz:\n{done.stderr.strip()}", "see above")


def lm_file(folder: Path, output: str) -> Path:
    """Path of an LM folder's 'arpa', 'binary' or 'unigrams'."""
    return folder / KINDS["lm"].writes[output]


def find_lm(folder: Path) -> LmFiles:
    """The files of an LM folder: a stage's, or one made elsewhere with the same names (the binary may be lacking)."""
    unigrams = lm_file(folder, "unigrams")
    model = next((path for kind in ("binary", "arpa") if (path := lm_file(folder, kind)).is_file()), None)
    if model is None:
        raise UserError(
            str(folder), "no lm.bin and no lm.arpa", "name the folder of an lm stage, or one with such files"
        )
    if not unigrams.is_file() or not unigrams.stat().st_size:
        problem = "no words in unigrams.txt: a search without the model's words is far worse"
        raise UserError(str(folder), problem, "put the ARPA's words there, one a line")
    arpa = lm_file(folder, "arpa")
    unit, tokens = _described(folder / DESCRIPTION)
    return LmFiles(model, unigrams, arpa if arpa.is_file() else None, unit, tokens)


def _described(path: Path) -> tuple[str, tuple[str, ...]]:
    """Unit and tokens that lm.json names; words where there is none."""
    if not path.is_file():
        return "word", ()
    try:
        data = read_json(path)
        unit, tokens = data.get("unit", "word"), tuple(data.get("tokens", ()))
    except (ValueError, AttributeError, TypeError) as error:
        raise UserError(str(path), f"not a description of an LM: {error}", "remove it, or make the LM anew") from error
    if unit not in ("word", "token"):
        raise UserError(str(path), f"unit '{unit}'", "write 'word' or 'token'")
    return unit, tokens


def describe(folder: Path, *, order: int, unit: str, tokens: Sequence[str] = ()) -> None:
    """Write lm.json: what the words of the model are, so that a search can tell whether it fits."""
    write_json(folder / DESCRIPTION, {"order": order, "unit": unit, "tokens": list(tokens)})


def lmplz_args(
    *,
    order: int,
    text: Path,
    arpa: Path,
    temp: Path,
    prune: Sequence[int] = (),
    discount_fallback: bool = True,
    only_words: Path | None = None,
) -> list[str]:
    """Arguments of lmplz; `temp` is the prefix of its temporary files, `only_words` a file of the words to keep.

    `--discount_fallback` only takes effect at orders where the estimate fails, which lmplz then names on stderr.
    """
    args = ["-o", str(order), "-S", SORT_MEMORY, "-T", str(temp), "--text", str(text), "--arpa", str(arpa)]
    if prune:
        args += ["--prune", *map(str, prune)]
    if discount_fallback:
        args += ["--discount_fallback"]
    if only_words is not None:
        args += ["--limit_vocab_file", str(only_words)]
    return args


def count_ngrams(
    kenlm: Kenlm,
    text: Path,
    arpa: Path,
    *,
    order: int,
    prune: Sequence[int] = (),
    discount_fallback: bool = True,
    only_words: Path | None = None,
) -> Counted:
    """Estimate a model (modified Kneser-Ney, interpolated) of `text`, one sentence a line, and write it as ARPA.

    N-grams with a word that is not in the file `only_words` are left out, and such a word is then an unknown one.
    """
    fix = "add text" if discount_fallback else "add text, or set discount_fallback: true"
    with _scratch(arpa) as scratch:
        part = scratch / "lm.arpa"
        args = lmplz_args(
            order=order,
            text=text,
            arpa=part,
            temp=scratch / "sort",
            prune=prune,
            discount_fallback=discount_fallback,
            only_words=only_words,
        )
        report = _run([str(kenlm.lmplz), *args], fix)
        part.rename(arpa)
    # lmplz numbers the orders from 0 in this line
    fallback = sorted({int(n) + 1 for n in re.findall(r"Substituting fallback discounts for order (\d+)", report)})
    return Counted(_ngram_counts(arpa), tuple(fallback))


def binary_args(structure: str, arpa: Path, binary: Path, temp: Path, quantise_bits: int | None = None) -> list[str]:
    """Arguments of build_binary; with `quantise_bits` (trie only) probabilities and back-offs take so many bits."""
    bits = [] if quantise_bits is None else ["-q", str(quantise_bits), "-b", str(quantise_bits)]
    return ["-S", SORT_MEMORY, "-T", str(temp), *bits, structure, str(arpa), str(binary)]


def build_binary(
    kenlm: Kenlm, arpa: Path, binary: Path, structure: str = "trie", quantise_bits: int | None = None
) -> None:
    """Write an ARPA as KenLM's binary: 'trie' is small, and smaller if quantised; 'probing' is fast."""
    with _scratch(binary) as scratch:
        part = scratch / "lm.bin"
        args = binary_args(structure, arpa, part, scratch / "sort", quantise_bits)
        _run([str(kenlm.build_binary), *args], "check the space left on the disk")
        part.rename(binary)


@contextmanager
def _scratch(beside: Path) -> Iterator[Path]:
    """A folder on the same disk for what is half made: KenLM's programs leave temporary files behind when they fail."""
    with tempfile.TemporaryDirectory(prefix=".kenlm.", dir=beside.parent) as folder:
        yield Path(folder)


def _run(command: list[str], fix: str) -> str:
    """Run a program of KenLM; returns its stderr, or raises UserError with the last lines that say something."""
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
    )
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip() and not _PROGRESS.match(line)]
        said = "\n  ".join(lines[-_ERROR_LINES:]) or "it said nothing"
        raise UserError(Path(command[0]).name, f"failed with exit code {done.returncode}:\n  {said}", fix)
    return done.stderr


_PROGRESS = re.compile(r"===|Chain sizes|----|\*+$|Name:|Unigram tokens")


def _ngram_counts(arpa: Path) -> tuple[int, ...]:
    counts = []
    with arpa.open(encoding="utf-8") as file:
        for line in file:
            if match := re.match(r"ngram \d+=(\d+)$", line):
                counts.append(int(match[1]))
            elif line.startswith("\\1-grams"):
                break
    return tuple(counts)


def read_words(arpa: Path) -> list[str]:
    """The words of an ARPA file, sorted, without sentence marks and the unknown word."""
    words = []
    with arpa.open(encoding="utf-8", newline="\n") as file:
        for line in file:
            if line.startswith("\\1-grams"):
                break
        for line in file:
            if line.startswith("\\"):
                break
            fields = line.rstrip("\n").split("\t")
            if len(fields) >= 2 and fields[1] not in SPECIAL:
                words.append(fields[1])
    return sorted(words)


def write_words(path: Path, words: Iterable[str]) -> None:
    """Write unigrams.txt: one word a line."""
    with atomic_text(path) as file:
        file.writelines(f"{word}\n" for word in words)

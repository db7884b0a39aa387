"""The voices that espeak-ng brings: one small file of its data folder each, found by name without loading the library.

A voice is a language or an accent of one (`cs`, `en-us`); who speaks with it is `hlas.corpus.speech.Speaker`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from hlas.errors import UserError, did_you_mean


@dataclass(frozen=True, slots=True)
class Voice:
    """One voice of espeak-ng."""

    name: str  # what espeak-ng is asked for
    file: Path  # in the data folder
    dictionary: str  # name of the file with its rules of pronunciation, in the data folder

    @property
    def language(self) -> str:
        """Its language's code, as Common Voice names most locales."""
        return self.name.partition("-")[0]


def data_folder() -> Path:
    """The data of the espeak-ng that this process loads."""
    import espeakng_loader

    return Path(espeakng_loader.get_data_path())


@cache
def voices() -> Mapping[str, Voice]:
    """Every voice by its name; those without a dictionary, which could only spell, are left out."""
    source = data_folder()
    out = {}
    for path in sorted(p for p in (source / "lang").rglob("*") if p.is_file()):
        name = path.name.lower()
        lines = (line.split() for line in path.read_text(encoding="utf-8", errors="replace").splitlines())
        stated = {words[0]: words[1] for words in lines if len(words) > 1}
        dictionary = f"{stated.get('dictionary', name.partition('-')[0])}_dict"
        if (source / dictionary).is_file():
            out[name] = Voice(name, path.relative_to(source), dictionary)
    return out


def find_voice(name: str) -> Voice:
    """The voice of that name; UserError with the nearest one where there is none."""
    known = voices()
    if name not in known:
        raise UserError("espeak-ng", f"no voice '{name}'", did_you_mean(name, known))
    return known[name]

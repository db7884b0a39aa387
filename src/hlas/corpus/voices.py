"""The voices that espeak-ng brings: one small file of its data folder each, found by name without loading the library.

A voice is a language or an accent of one (`cs`, `en-us`); who speaks with it is `hlas.corpus.speech.Speaker`.
"""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from hlas.errors import UserError

_NEAREST = 8  # of more than a hundred voices, for a name that is none


@dataclass(frozen=True, slots=True)
class Voice:
    """One voice of espeak-ng."""

    name: str  # what espeak-ng is asked for
    file: Path  # in the data folder
    dictionary: str  # name of the file with its rules of pronunciation, in the data folder
    title: str  # in English words: 'Czech', 'English (America)'

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
        lines = (
            line.partition("//")[0].split() for line in path.read_text(encoding="utf-8", errors="replace").splitlines()
        )
        stated = {words[0]: " ".join(words[1:]) for words in lines if len(words) > 1}
        dictionary = f"{stated.get('dictionary', name.partition('-')[0])}_dict"
        if (source / dictionary).is_file():
            out[name] = Voice(name, path.relative_to(source), dictionary, stated.get("name", name))
    return out


def find_voice(name: str) -> Voice:
    """The voice of that name; UserError with the nearest ones, by name and by language, where there is none."""
    known = voices()
    if name in known:
        return known[name]
    named = {voice.title.lower(): voice for voice in known.values()} | dict(known)
    near = [named[text] for text in difflib.get_close_matches(name.lower(), named, n=2 * _NEAREST, cutoff=0.0)]
    listed = [f"{voice.name} ({voice.title})" for voice in dict.fromkeys(near)][:_NEAREST]
    raise UserError("espeak-ng", f"no voice '{name}'", f"of {len(known)} the nearest are: {', '.join(listed)}")

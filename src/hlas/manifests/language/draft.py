"""`hlas language new`: a language spec drafted from a text by counting its characters, for a person to finish.

A letter that few sentences hold is taken for one of a foreign word and left out; its count stands in a comment. The
golden cases are sentences of the text and what the draft makes of them: they show it, they do not prove it right.
"""

import json
import tempfile
import unicodedata
from collections import Counter
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

from hlas.errors import UserError, UserErrors
from hlas.files import atomic_text
from hlas.manifests.language.characters import LATIN_LOOKALIKES, CharacterCounts, count_characters
from hlas.manifests.language.file import code_problem, read_language
from hlas.manifests.language.number_words import Digits, num2words_problem
from hlas.manifests.language.sentences import open_sentences
from hlas.manifests.text import APOSTROPHES, HYPHENS, SPOKEN_SYMBOLS, Language, golden_failures

RARE = 0.005  # share of the sentences: a letter in fewer is left out, an apostrophe in more is part of the spelling
GOLDEN_ACCEPTED = 8
_EMOJI = frozenset(map(chr, range(0xFE00, 0xFE10)))  # variation selectors: marks that the rules drop


def write_draft(out: Path, code: str, name: str, text: Path, workers: int = 1) -> None:
    """Write the draft of a language: valid, and its golden cases pass.

    Raises:
        UserError: `out` is there already, the code is none, or the text cannot be read or holds no letters.

    """
    if out.exists():
        raise UserError(str(out), "is there already", "give another file: --out FILE; a draft never overwrites")
    if problem := code_problem(code):
        raise UserError(code, *problem)
    draft = Draft(code, name, text.name, count_characters(open_sentences(text), workers))
    if not draft.letters:
        raise UserError(str(text), "no letters in it", "give sentences of the language, one a line")
    with tempfile.TemporaryDirectory() as scratch:
        trial = Path(scratch) / f"{code}.yaml"
        rules = draft.rules()
        trial.write_text(rules, encoding="utf-8")
        whole = rules + draft.golden(read_language(trial))
        trial.write_text(whole, encoding="utf-8")
        if errors := golden_failures(read_language(trial), trial):
            raise UserErrors(errors)
    with atomic_text(out) as file:
        file.write(whole)


class Draft:
    """The YAML of a language, from counts."""

    def __init__(self, code: str, name: str, source: str, counts: CharacterCounts) -> None:
        self._code, self._counts = code, counts
        self._name, self._source = (" ".join(text.split()) for text in (name, source))  # one line of a comment

    @cached_property
    def _all_letters(self) -> Counter[str]:
        """Letters and the marks that belong to them, in lower case."""
        found = self._counts.characters.items()
        return Counter(
            {char: count for char, count in found if unicodedata.category(char)[0] in "LM" and char not in _EMOJI}
        )

    @cached_property
    def _frequent(self) -> set[str]:
        return {char for char, count in self._all_letters.items() if self._counts.share(count) >= RARE}

    @cached_property
    def letters(self) -> list[str]:
        """The alphabet: letters in order, those with a diacritic after their base."""
        own = [c for c in self._frequent if c not in APOSTROPHES and c not in self.lookalikes]
        return sorted(own, key=lambda c: (unicodedata.normalize("NFD", c)[0], c))

    @cached_property
    def lookalikes(self) -> dict[str, str]:
        """Latin letters that stand in Cyrillic words, where the text is Cyrillic."""
        latin_text = any(c.isascii() and c not in LATIN_LOOKALIKES for c in self._frequent)
        if latin_text or not self._counts.lookalikes:
            return {}
        return {latin: letter for latin, letter in LATIN_LOOKALIKES.items() if letter in self._frequent}

    def rules(self) -> str:
        """The rules, each with what was counted."""
        return "".join(f"{line}\n" for line in self._rules())

    def _rules(self) -> Iterator[str]:
        counts = self._counts
        yield f"# {self._name}: a draft from {counts.sentences} sentences of {self._source}."
        yield "# Decide about every comment and every golden case, then run: ./hlas validate"
        yield f"# What it does to a text: ./hlas language check {self._code} FILE"
        yield f"code: {self._code}"
        yield f"name: {_quoted(self._name)}"
        yield "version: 1"
        yield f"alphabet: {_quoted(' '.join(self.letters))}"
        rare = {c: n for c, n in self._all_letters.items() if c not in self.letters and c not in self.lookalikes}
        if rare:
            yield f"# left out, as less than {100 * RARE:g} % of the sentences hold them; are they of the language?"
            yield from self._counted(rare)
        yield from self._marks()
        yield from self._digits()
        yield from self._replaced()

    def _counted(self, characters: dict[str, int]) -> Iterator[str]:
        """Comment lines: a character, its code point, its count."""
        shown = [
            f"{'◌' * (unicodedata.category(char)[0] == 'M')}{char} U+{ord(char):04X} {count}"
            for char, count in sorted(characters.items(), key=lambda item: (-item[1], item[0]))
        ]
        for first in range(0, len(shown), 6):
            yield "#   " + ", ".join(shown[first : first + 6])

    def _marks(self) -> Iterator[str]:
        apostrophes, hyphens = self._counts.inside_words(APOSTROPHES), self._counts.inside_words(HYPHENS)
        frequent = self._counts.share(apostrophes) >= RARE
        policy = "inner" if frequent else "remove" if apostrophes else "space"
        yield f"apostrophe: {policy:<10}  # inner, everywhere, space, remove; inside words in {apostrophes} sentences"
        yield f"hyphen: space           # inner, everywhere, space, remove; inside words in {hyphens} sentences"

    def _digits(self) -> Iterator[str]:
        with_digits = max((n for c, n in self._counts.characters.items() if c.isdecimal()), default=0)
        problem = num2words_problem(Digits("words", self._code))
        yield f"digits:                 # the commonest digit is in {with_digits} sentences"
        if problem:
            yield f"  policy: reject        # {problem}"
        else:
            yield "  policy: hypotheses    # words: where a number has one reading; reject: where num2words is wrong"
            yield f"  num2words: {self._code}"

    def _replaced(self) -> Iterator[str]:
        spoken = {c: self._counts.characters[c] for c in SPOKEN_SYMBOLS if self._counts.characters[c]}
        if spoken:
            yield '# symbols that reject a sentence, until replacements give their words: {"%": " percent "}'
            yield from self._counted(spoken)
        if self.lookalikes:
            found = ", ".join(f"{c} {n}" for c, n in sorted(self._counts.lookalikes.items()))
            yield f"# Latin letters inside Cyrillic words, in so many sentences: {found}"
            pairs = ", ".join(f"{latin}: {letter}" for latin, letter in self.lookalikes.items())
            yield f"lookalikes: {{{pairs}}}"

    def golden(self, language: Language) -> str:
        """Golden cases: sentences that together hold many letters and marks, and one for each reason of a reject."""
        lines = ["golden:                 # what the draft does; correct what should be otherwise, then mend the rules"]
        checked = [(raw, language.check(raw)) for raw in self._counts.candidates]
        accepted = [raw for raw, result in checked if not result.reason]
        for raw in _covering(accepted, GOLDEN_ACCEPTED):
            lines.append(f"  - {{in: {_quoted(raw)}, out: {_quoted(language.normalise(raw))}}}")
        first = {result.reason: (raw, result) for raw, result in reversed(checked) if result.reason}
        for reason, (raw, result) in sorted(first.items()):
            lines.append(f"  - {{in: {_quoted(raw)}, reject: {reason}}}  # {result.detail}")
        if "no_text" not in first:
            lines.append('  - {in: "…", reject: no_text}')
        return "".join(f"{line}\n" for line in lines)


def _covering(sentences: list[str], most: int) -> Iterator[str]:
    """Few sentences that hold many of the characters, each time the one with the most that are still missing."""
    characters = [(raw, set(raw.lower())) for raw in sentences]
    seen: set[str] = set()
    for _ in range(min(most, len(sentences))):
        raw, held = max(characters, key=lambda pair: len(pair[1] - seen))
        if held <= seen:
            return
        seen |= held
        yield raw


def _quoted(text: str) -> str:
    """A text in double quotes, as YAML and JSON write it alike."""
    return json.dumps(text, ensure_ascii=False)

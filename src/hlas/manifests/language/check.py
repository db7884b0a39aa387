"""`hlas language check`: what a language's rules do to the sentences of a file, counted and with examples."""

import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from hlas.manifests.language.sentences import BadLine, SentenceFile
from hlas.manifests.text import Language, character_reason
from hlas.parallel import map_chunks
from hlas.progress import track

KEPT, CHANGED = "kept", "changed"  # outcomes of an accepted sentence; every other outcome is the reason of a reject
MEANING = {
    KEPT: "only case, punctuation and spaces differ",
    CHANGED: "letters or words differ",
    "no_text": "nothing is left",
    "foreign_letter": "letters outside the alphabet",
    "digits": "digits that are not read out",
    "symbol": "symbols that are words to a reader",
    "bad_row": "no row of its table or manifest",
    "not_utf8": "not UTF-8",
}
SHOWN_CHARACTERS = 40  # in the text form; the JSON form has all


@dataclass(frozen=True, slots=True)
class Example:
    """One sentence and what the rules make of it."""

    raw: str
    text: str
    detail: str = ""  # the characters that are the reason of a reject


@dataclass(slots=True)
class LanguageCheck:
    """What became of the sentences of a file, or of a block of it."""

    examples_each: int
    outcomes: Counter[str] = field(default_factory=Counter)  # outcome -> sentences
    characters: Counter[str] = field(default_factory=Counter)  # outside the alphabet -> sentences that hold it
    examples: dict[str, list[Example]] = field(default_factory=dict)  # outcome -> the first ones

    @property
    def sentences(self) -> int:
        """All that were read."""
        return self.outcomes.total()

    def commonest_characters(self) -> list[tuple[str, int]]:
        """The characters outside the alphabet, the commonest first; equal counts in code point order."""
        return sorted(self.characters.items(), key=lambda item: (-item[1], item[0]))

    def add(self, outcome: str, example: Example) -> None:
        """Count one sentence."""
        self.outcomes[outcome] += 1
        shown = self.examples.setdefault(outcome, [])
        if len(shown) < self.examples_each:
            shown.append(example)

    def merge(self, later: "LanguageCheck") -> None:
        """Add the counts of a later part of the file."""
        self.outcomes.update(later.outcomes)
        self.characters.update(later.characters)
        for outcome, examples in later.examples.items():
            shown = self.examples.setdefault(outcome, [])
            shown += examples[: self.examples_each - len(shown)]


def check_file(language: Language, file: SentenceFile, *, examples: int = 3, workers: int = 1) -> LanguageCheck:
    """Check every sentence of a file; the result does not depend on the number of workers."""
    result = LanguageCheck(examples)
    blocks = file.blocks()
    checker = _Checker(language, file, examples)
    for part in track(map_chunks(checker, blocks, workers=workers, chunk_size=1), "check", len(blocks), "blocks"):
        result.merge(part)
    return result


@dataclass(frozen=True, slots=True)
class _Checker:
    """Checks blocks of a file, in whichever process."""

    language: Language
    file: SentenceFile
    examples: int

    def __call__(self, blocks: Sequence[tuple[int, int]]) -> list[LanguageCheck]:
        return [self._check(*block) for block in blocks]

    def _check(self, start: int, stop: int) -> LanguageCheck:
        result = LanguageCheck(self.examples)
        own = {*self.language.alphabet, " "}
        for raw in self.file.read(start, stop):
            if isinstance(raw, BadLine):
                result.add(raw.reason, Example(raw.text, ""))
                continue
            checked = self.language.check(raw)
            written = unicodedata.normalize("NFC", raw)
            if self.language.case == "lower":
                written = written.lower()
            result.characters.update(set(written) - own)
            outcome = checked.reason or (KEPT if _letters(written) == _letters(checked.text) else CHANGED)
            result.add(outcome, Example(raw, checked.text, checked.detail))
        return result


def _letters(text: str) -> str:
    return "".join(filter(str.isalpha, text))


def fate(language: Language, char: str) -> str:
    """What the rules make of a character between two letters of a transcript, in words."""
    letter = language.alphabet[0]
    out = language.check(f"{letter}{char}{letter}").text
    middle = out[1:-1] if len(out) > 1 and out[0] == out[-1] == letter else char
    if middle == char:
        return "rejected: " + character_reason(char)
    return {"": "goes", " ": "space"}.get(middle, f"'{middle.strip()}'")


def check_json(language: Language, result: LanguageCheck) -> dict[str, Any]:
    """The JSON form."""
    accepted = result.outcomes[KEPT] + result.outcomes[CHANGED]
    return {
        "language": language.code,
        "version": language.version,
        "sentences": result.sentences,
        "accepted": accepted,
        "rejected": result.sentences - accepted,
        "outcomes": dict(result.outcomes.most_common()),
        "characters": [
            {"character": char, "code_point": f"U+{ord(char):04X}", "sentences": count, "becomes": fate(language, char)}
            for char, count in result.commonest_characters()
        ],
        "examples": {
            outcome: [{"raw_text": e.raw, "text": e.text, "detail": e.detail} for e in examples]
            for outcome, examples in result.examples.items()
        },
    }


def check_lines(language: Language, result: LanguageCheck) -> Iterator[str]:
    """The text form: outcomes, examples, characters."""
    outcomes = [KEPT, CHANGED, *(o for o, _ in result.outcomes.most_common() if o not in (KEPT, CHANGED))]
    yield f"{language.name} ({language.code}, version {language.version}): {result.sentences} sentences"
    for outcome in outcomes:
        count = result.outcomes[outcome]
        share = 100 * count / max(result.sentences, 1)
        label = outcome if outcome in (KEPT, CHANGED) else f"rejected: {outcome}"
        yield f"  {label:<26} {count:>9}  {share:7.3f} %  {MEANING[outcome]}"
    for outcome in outcomes:
        if examples := result.examples.get(outcome):
            yield f"\n{outcome}"
            for example in examples:
                yield f"    {_printable(example.raw)}"
                why = f"[{_printable(example.detail)}]" if example.detail else ""
                yield f"  → {why or _printable(example.text)}"
    if result.characters:
        yield "\ncharacters outside the alphabet, and how many sentences hold them"
        for char, count in result.commonest_characters()[:SHOWN_CHARACTERS]:
            name = unicodedata.name(char, "unnamed").lower()
            yield f"  {_printable(char):<6} U+{ord(char):04X}  {count:>9}  {fate(language, char):<26} {name}"
        if (more := len(result.characters) - SHOWN_CHARACTERS) > 0:
            yield f"  and {more} more (--format json has all)"


def _printable(text: str) -> str:
    """The text for a terminal: at most 200 characters, what cannot be seen as its escape, a lone mark on a circle."""
    shown = text if len(text) <= 200 else text[:199] + "…"
    if len(shown) == 1 and unicodedata.category(shown)[0] == "M":
        return "◌" + shown
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in shown)

"""One language's text rules: the same for manifests, LM text, references and every system's hypotheses.

Rules are data (manifests/languages/*.yaml). In order: NFC; replacements; lower case; digits; every character is then
kept (a letter), mapped to the language's apostrophe or hyphen, dropped (invisible) or made a space (punctuation);
marks at a word's edge go; spaces shrink to one. Diacritics are never stripped: what the alphabet does not hold stays,
so that `check` rejects a transcript and a hypothesis keeps its error. Normalising twice changes nothing.
"""

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from hlas.errors import UserError
from hlas.manifests.number_words import Digits, NumberReader

# what keyboards and typesetters put for an apostrophe and for a hyphen (dashes are punctuation, not hyphens)
APOSTROPHES = "'’‘‛ʼʻʹ′`´＇ꞌ"
HYPHENS = "-‐‑﹣－−"
REASONS = ("no_text", "foreign_letter", "digits", "symbol")  # why `check` rejects
SPOKEN_SYMBOLS = "%‰&@#$€£¥+=°§×÷"  # read aloud as words: as punctuation they would be words lost

MarkPolicy = Literal["inner", "everywhere", "space", "remove"]


@dataclass(frozen=True, slots=True)
class Checked:
    """A transcript after the rules: its text, or the reason why it is rejected."""

    text: str
    reason: str = ""  # '' = accepted; else one of REASONS
    detail: str = ""  # the characters that are the reason


@dataclass(frozen=True, slots=True)
class Language:
    """One language's text rules."""

    code: str
    name: str
    alphabet: tuple[str, ...]  # letters in order, then marks such as the apostrophe; without the space
    version: int = 1  # raised when a rule changes
    whisper_code: str = ""  # the language Whisper is told; '' = code
    case: Literal["lower", "keep"] = "lower"
    apostrophe: MarkPolicy = "space"  # inner: kept between two letters; everywhere; made a space; removed
    hyphen: MarkPolicy = "space"
    digits: Digits = field(default_factory=Digits)
    replacements: Mapping[str, str] = field(default_factory=dict)  # written form -> letters and spaces
    spoken_symbols: str = SPOKEN_SYMBOLS  # other symbols and all punctuation become a space
    _rules: "_Rules" = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Compile the rules."""
        object.__setattr__(self, "_rules", _Rules(self))

    def normalise(self, text: str) -> str:
        """Apply the rules; never fails: characters outside the alphabet stay (a hypothesis keeps its errors)."""
        return self._rules.apply(text)

    def check(self, text: str) -> Checked:
        """Normalise a transcript or a line of LM text and reject what the alphabet does not hold."""
        text = self._rules.apply(text)
        if not text:
            return Checked("", "no_text")
        foreign = self._rules.foreign.findall(text)
        if not foreign:
            return Checked(text)
        first = unicodedata.category(min(foreign, key=_severity))
        reason = {"N": "digits", "P": "symbol", "S": "symbol"}.get(first[0], "foreign_letter")
        return Checked(text, reason, "".join(sorted(set(foreign))))


class _Rules:
    """The compiled form of a Language's rules; plain data and patterns, so it can travel to worker processes."""

    def __init__(self, language: Language) -> None:
        alphabet = "".join(language.alphabet)
        self._lower = language.case == "lower"
        single = {k: v for k, v in language.replacements.items() if len(k) == 1 and not self._is_capital(k)}
        longer = {k: v for k, v in language.replacements.items() if k not in single}
        # a key with a capital would never match after lower-casing, so it is matched before
        self._early = _replacer({k: v for k, v in longer.items() if self._is_capital(k)})
        self._late = _replacer({k: v for k, v in longer.items() if not self._is_capital(k)})
        self._table = _Table(language, single)
        self._numbers = NumberReader(language.digits) if language.digits.policy == "words" else None
        inner = "".join(m for m, policy in (("'", language.apostrophe), ("-", language.hyphen)) if policy == "inner")
        # at a word's edge an apostrophe is a quotation mark and a hyphen a dash
        marks = f"[{re.escape(inner)}]"
        self._edges = re.compile(rf"{marks}{{2,}}|(?<!\S){marks}|{marks}(?!\S)") if inner else None
        self.foreign = re.compile(f"[^ {re.escape(alphabet)}]")

    def _is_capital(self, key: str) -> bool:
        return self._lower and key != key.lower()

    def apply(self, text: str) -> str:
        text = unicodedata.normalize("NFC", text)
        if self._early:
            text = self._early(text)
        if self._lower:
            text = text.lower()
        if self._late:
            text = self._late(text)
        if self._numbers and _DIGIT.search(text):
            text = self._numbers(text)
        text = text.translate(self._table)
        if self._edges:
            text = self._edges.sub(" ", text)
        text = " ".join(text.split())
        # lower-casing and dropped characters can bring a letter and a combining mark together
        return text if text.isascii() else unicodedata.normalize("NFC", text)


_DIGIT = re.compile(r"\d")


class _Table(dict[int, str | None]):
    """For str.translate: what becomes of each character, worked out when it is first met."""

    def __init__(self, language: Language, replacements: Mapping[str, str]) -> None:
        super().__init__()
        self._spoken = frozenset(language.spoken_symbols)
        for variants, mark, policy in (
            (APOSTROPHES, "'", language.apostrophe),
            (HYPHENS, "-", language.hyphen),
        ):
            becomes = {"space": " ", "remove": None}.get(policy, mark)
            self.update((ord(c), becomes) for c in variants)
        self.update((ord(c), c) for c in language.alphabet)
        self.update((ord(key), value) for key, value in replacements.items())

    def __missing__(self, code: int) -> str | None:
        char = chr(code)
        self[code] = self._becomes(char)
        return self[code]

    def _becomes(self, char: str) -> str | None:
        category = unicodedata.category(char)
        if char in self._spoken:
            return char
        if category == "Cf" or "︀" <= char <= "️":  # soft hyphen, joiners, direction marks; variation selectors
            return None
        return " " if category[0] in "ZPS" or category == "Cc" else char


class _Replacer:
    """All replacements in one pass, the longest key first; letters at a longer key's ends are word edges."""

    def __init__(self, replacements: Mapping[str, str]) -> None:
        self._values = dict(replacements)
        keys = sorted(replacements, key=len, reverse=True)
        self._pattern = re.compile("|".join(self._whole_words(key) for key in keys))

    @staticmethod
    def _whole_words(key: str) -> str:
        if len(key) == 1:
            return re.escape(key)
        left = r"\b" if key[0].isalnum() else ""
        right = r"\b" if key[-1].isalnum() else ""
        return left + re.escape(key) + right

    def __call__(self, text: str) -> str:
        return self._pattern.sub(lambda match: self._values[match[0]], text)


def _replacer(replacements: Mapping[str, str]) -> _Replacer | None:
    return _Replacer(replacements) if replacements else None


def _severity(char: str) -> int:
    """Letters before digits before symbols: the reason that is named when there are several."""
    return {"N": 1, "P": 2, "S": 2}.get(unicodedata.category(char)[0], 0)


def load_language(path: Path) -> Language:
    """Read a language YAML; UserErrors lists everything that is wrong with it."""
    from hlas.manifests.language_file import read_language

    return read_language(path)


def golden_failures(language: Language, path: Path) -> list[UserError]:
    """The golden cases of a language YAML that its rules do not meet, each with its line."""
    from hlas.manifests.language_file import golden_cases

    cases = golden_cases(path)
    if not cases:
        return [UserError(str(path), "no golden cases", "add 'golden:' with a case for each rule: {in: …, out: …}")]
    errors = []
    for case in cases:
        got = language.check(case.text)
        if case.reject:
            wanted, outcome = f"reject: {case.reject}", f"reject: {got.reason}" if got.reason else f"'{got.text}'"
        else:
            wanted = f"'{case.out}'"
            outcome = f"reject: {got.reason} ({got.detail})" if got.reason else f"'{got.text}'"
        again = language.normalise(got.text)
        if outcome != wanted:
            problem = f"golden case '{case.text}' gives {outcome}, expected {wanted}"
            errors.append(UserError(case.place, problem, "mend the rule or the case"))
        elif again != got.text:
            problem = f"golden case '{case.text}': normalising twice gives '{again}', once '{got.text}'"
            errors.append(UserError(case.place, problem, "a replacement matches its own output: change it"))
    return errors

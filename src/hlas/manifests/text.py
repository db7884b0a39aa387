"""One language's text rules: the same for manifests, LM text, references and every system's hypotheses.

Rules are data (manifests/languages/*.yaml). In order: NFC; replacements; lower case; digits; every character is then
kept (a letter), mapped to the language's apostrophe or hyphen, dropped (invisible) or made a space (punctuation);
marks at a word's edge go; letters of another script that only look like the alphabet's are put right; spaces shrink to
one. Diacritics are never stripped: what the alphabet does not hold stays, so that `check` rejects a transcript and a
hypothesis keeps its error. Normalising twice changes nothing.
"""

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from hlas.errors import UserError
from hlas.manifests.language.number_words import Digits, NumberReader
from hlas.manifests.language.rewriting import LookAlikes, Replacer

# what keyboards and typesetters put for an apostrophe and for a hyphen (dashes are punctuation, not hyphens)
APOSTROPHES = "'’‘‛ʼʻʹ′`´＇ꞌ"
HYPHENS = "-‐‑﹣－−"
REASONS = ("no_text", "foreign_letter", "digits", "symbol")  # why `check` rejects; of several the first is named
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
    lookalikes: Mapping[str, str] = field(default_factory=dict)  # letter of another script -> letter of the alphabet
    spoken_symbols: str = SPOKEN_SYMBOLS  # other symbols and all punctuation become a space
    _rules: "_Rules" = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Compile the rules."""
        object.__setattr__(self, "_rules", _Rules(self))

    def normalise(self, text: str) -> str:
        """Apply the rules; never fails: characters outside the alphabet stay (a hypothesis keeps its errors)."""
        return self._rules.apply(text, read_digits=self.digits.policy != "reject")

    def check(self, text: str) -> Checked:
        """Normalise a transcript or a line of LM text and reject what the alphabet does not hold.

        An accepted text is what `normalise` gives. Digits that are read in hypotheses only stay here, as a reason.
        """
        text = self._rules.apply(text, read_digits=self.digits.policy == "words")
        if self._rules.own.fullmatch(text):
            return Checked(text)
        if not text:
            return Checked("", "no_text")
        foreign = self._rules.own.sub("", text)
        reasons = set(map(character_reason, foreign))
        return Checked(text, next(r for r in REASONS if r in reasons), "".join(sorted(set(foreign))))


class _Rules:
    """The compiled form of a Language's rules; plain data and patterns, so it can travel to worker processes."""

    def __init__(self, language: Language) -> None:
        alphabet = "".join(language.alphabet)
        self.own = re.compile(f"[ {re.escape(alphabet)}]+")
        self._lower = language.case == "lower"
        single = {k: v for k, v in language.replacements.items() if len(k) == 1 and not self._is_capital(k)}
        longer = {k: v for k, v in language.replacements.items() if k not in single}
        # a key with a capital would never match after lower-casing, so it is matched before
        self._early = _replacer({k: v for k, v in longer.items() if self._is_capital(k)})
        self._late = _replacer({k: v for k, v in longer.items() if not self._is_capital(k)})
        self._becomes = _Becomes(language, single)
        self._others = re.compile(f"[^ {re.escape(alphabet)}]")
        self._numbers = NumberReader(language.digits) if language.digits.policy != "reject" else None
        capitals = {k: v for k, v in language.lookalikes.items() if self._is_capital(k)}
        small = {k: v for k, v in language.lookalikes.items() if k not in capitals}
        self._capital_lookalikes = LookAlikes(capitals, alphabet) if capitals else None
        self._lookalikes = LookAlikes(small, alphabet) if small else None
        self._inner = [m for m, policy in (("'", language.apostrophe), ("-", language.hyphen)) if policy == "inner"]
        # at a word's edge an apostrophe is a quotation mark and a hyphen a dash
        marks = f"[{re.escape(''.join(self._inner))}]"
        self._edges = re.compile(rf"{marks}{{2,}}|(?<!\S){marks}|{marks}(?!\S)") if self._inner else None

    def _is_capital(self, key: str) -> bool:
        return self._lower and key != key.lower()

    def apply(self, text: str, *, read_digits: bool) -> str:
        """All rules in order; applied again where what is left composes to a letter that a rule may know."""
        text = unicodedata.normalize("NFC", text)
        for _ in range(_MOST_ROUNDS):
            out = self._spaced(self._lowered(text))
            if not self.own.fullmatch(out):  # else there is nothing that the rarer rules look for
                out = self._with_rarer_rules(text, read_digits)
            # lower-casing and dropped characters can bring a letter and a combining mark together
            text = unicodedata.normalize("NFC", out)
            if text == out:
                break
        return text

    def _with_rarer_rules(self, text: str, read_digits: bool) -> str:
        if self._capital_lookalikes:
            text = self._capital_lookalikes(text)
        text = self._lowered(text)
        if read_digits and self._numbers and _DIGIT.search(text):
            text = self._numbers(text)
            text = text.lower() if self._lower else text  # German number words hold capitals: 'eine Million'
        text = self._spaced(text)
        return self._lookalikes(text) if self._lookalikes else text

    def _lowered(self, text: str) -> str:
        if self._early:
            text = self._early(text)
        if self._lower:
            text = text.lower()
        return self._late(text) if self._late else text

    def _spaced(self, text: str) -> str:
        text = self._others.sub(self._become, text)
        if self._edges and any(map(text.__contains__, self._inner)):
            text = self._edges.sub(" ", text)
        return " ".join(text.split())

    def _become(self, match: re.Match[str]) -> str:
        return self._becomes[match[0]]


_DIGIT = re.compile(r"\d")
_MOST_ROUNDS = 100  # each takes a mark from a letter with a heap of them; no word has that many


class _Becomes(dict[str, str]):
    """What becomes of each character outside the alphabet, worked out when it is first met."""

    def __init__(self, language: Language, replacements: Mapping[str, str]) -> None:
        super().__init__()
        self._spoken = frozenset(language.spoken_symbols)
        for variants, mark, policy in (
            (APOSTROPHES, "'", language.apostrophe),
            (HYPHENS, "-", language.hyphen),
        ):
            self.update(dict.fromkeys(variants, {"space": " ", "remove": ""}.get(policy, mark)))
        self.update(replacements)

    def __missing__(self, char: str) -> str:
        self[char] = self._of(char)
        return self[char]

    def _of(self, char: str) -> str:
        category = unicodedata.category(char)
        if char in self._spoken:
            return char
        if category == "Cf" or "\ufe00" <= char <= "\ufe0f":  # soft hyphen, joiners …; variation selectors
            return ""
        return " " if category[0] in "ZPS" or category == "Cc" else char


def _replacer(replacements: Mapping[str, str]) -> Replacer | None:
    return Replacer(replacements) if replacements else None


def character_reason(char: str) -> str:
    """The reason for a reject that a character outside the alphabet is."""
    return {"N": "digits", "P": "symbol", "S": "symbol"}.get(unicodedata.category(char)[0], "foreign_letter")


def load_language(path: Path) -> Language:
    """Read a language YAML; UserErrors lists everything that is wrong with it."""
    from hlas.manifests.language.file import read_language

    return read_language(path)


def golden_failures(language: Language, path: Path) -> list[UserError]:
    """The golden cases of a language YAML that its rules do not meet, each with its line."""
    from hlas.manifests.language.file import golden_cases

    cases = golden_cases(path)
    if not cases:
        return [UserError(str(path), "no golden cases", "add 'golden:' with a case for each rule: {in: …, out: …}")]
    errors = []
    for case in cases:
        got = language.check(case.text)
        if case.expects == "hypothesis":
            got = Checked(language.normalise(case.text))
        wanted = f"reject: {case.value}" if case.expects == "reject" else f"'{case.value}'"
        outcome = f"reject: {got.reason}" if got.reason else f"'{got.text}'"
        again = language.normalise(got.text)
        if outcome != wanted:
            why = f" ({got.detail})" if got.detail else ""
            problem = f"golden case '{case.text}' gives {outcome}{why}, expected {wanted}"
            errors.append(UserError(case.place, problem, "mend the rule or the case"))
        elif again != got.text and not got.reason:
            problem = f"golden case '{case.text}': normalising twice gives '{again}', once '{got.text}'"
            errors.append(UserError(case.place, problem, "a replacement matches its own output: change it"))
    return errors

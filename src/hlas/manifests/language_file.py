"""The YAML form of a language: read strictly, every mistake reported with its line, golden cases beside the rules."""

import re
import unicodedata
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Literal

from hlas.errors import UserError, UserErrors
from hlas.manifests.number_words import Digits, num2words_problem
from hlas.manifests.text import REASONS, SPOKEN_SYMBOLS, Language, MarkPolicy
from hlas.params import build_params
from hlas.yamls import Document, read_yaml


@dataclass(frozen=True, slots=True)
class _Whisper:
    code: str


@dataclass(frozen=True, slots=True)
class _Keys:
    """The keys of a language YAML, but for `golden`."""

    code: str  # as in Common Voice's locale
    name: str
    version: int
    alphabet: str  # letters in order, spaces ignored; apostrophe and hyphen come from their policies
    case: Literal["lower", "keep"] = "lower"
    apostrophe: MarkPolicy = "space"
    hyphen: MarkPolicy = "space"
    digits: Digits = field(default_factory=Digits)
    replacements: dict[str, str] = field(default_factory=dict)
    spoken_symbols: str = SPOKEN_SYMBOLS
    whisper: _Whisper = field(default_factory=lambda: _Whisper(""))


@dataclass(frozen=True, slots=True)
class GoldenCase:
    """One case of a language YAML: a text, and what the rules make of it or why they reject it."""

    text: str
    out: str
    reject: str  # reason; '' where `out` counts
    place: str  # 'file:line'


def read_language(path: Path) -> Language:
    """Read and check a language YAML; UserErrors lists every mistake."""
    document = read_yaml(path)
    errors = list(document.errors)
    without_golden = {key: value for key, value in document.data.items() if key != "golden"}
    built = build_params(
        _Keys, "language", Document(without_golden, document.places), ("golden",), {}, errors, document.place()
    )
    _golden(document, errors)
    if built is None:
        raise UserErrors(errors)
    language = _language(built[0], document, errors)
    if errors or language is None:
        raise UserErrors(errors)
    return language


def golden_cases(path: Path) -> list[GoldenCase]:
    """The golden cases of a language YAML."""
    errors: list[UserError] = []
    cases = _golden(read_yaml(path), errors)
    if errors:
        raise UserErrors(errors)
    return cases


def _golden(document: Document, errors: list[UserError]) -> list[GoldenCase]:
    entries = document.data.get("golden", [])
    if not isinstance(entries, list):
        errors.append(UserError(document.place("golden"), "not a list", "write '- {in: …, out: …}' lines"))
        return []
    cases = []
    for i, entry in enumerate(entries):
        place = document.place("golden", i)
        if not isinstance(entry, dict) or set(entry) not in ({"in", "out"}, {"in", "reject"}):
            errors.append(UserError(place, "not a golden case", "give 'in' and either 'out' or 'reject'"))
        elif entry.get("reject", REASONS[0]) not in REASONS:
            fix = "one of: " + ", ".join(REASONS)
            errors.append(UserError(place, f"no such reason for a reject: '{entry['reject']}'", fix))
        else:
            cases.append(GoldenCase(str(entry["in"]), str(entry.get("out", "")), entry.get("reject", ""), place))
    return cases


def _language(keys: _Keys, document: Document, errors: list[UserError]) -> Language | None:
    """The Language that the keys describe, or None with what contradicts itself appended to `errors`."""
    found = len(errors)

    def wrong(problem: str, fix: str, *path: str) -> None:
        errors.append(UserError(document.place(*path), problem, fix))

    if not re.fullmatch(r"[a-z]{2,3}([-_][A-Za-z0-9]+)*", keys.code):
        wrong(f"'{keys.code}' is not a language code", "the locale's name in Common Voice, e.g. hsb, sv-SE", "code")
    letters = "".join(unicodedata.normalize("NFC", keys.alphabet).split())
    for problem, fix in _alphabet_problems(letters, keys.case):
        wrong(problem, fix, "alphabet")
    digits = keys.digits
    if digits.policy == "words":
        digits = replace(digits, num2words=digits.num2words or keys.code)
        if problem := num2words_problem(digits):
            wrong(problem, "give 'num2words: CODE' of a language it knows, or 'policy: reject'", "digits")
    if len(errors) > found:
        return None
    marks = [m for m, policy in (("'", keys.apostrophe), ("-", keys.hyphen)) if policy in ("inner", "everywhere")]
    language = Language(
        code=keys.code,
        name=keys.name,
        alphabet=(*letters, *marks),
        version=keys.version,
        whisper_code=keys.whisper.code,
        case=keys.case,
        apostrophe=keys.apostrophe,
        hyphen=keys.hyphen,
        digits=digits,
        spoken_symbols=keys.spoken_symbols,
    )
    nfc = partial(unicodedata.normalize, "NFC")
    replacements = {nfc(key): nfc(value) for key, value in keys.replacements.items()}
    for key, value in replacements.items():
        for problem, fix in _replacement_problems(key, value, language):
            wrong(problem, fix, "replacements", key)
    return replace(language, replacements=replacements)


def _alphabet_problems(letters: str, case: str) -> list[tuple[str, str]]:
    out = []
    if not letters:
        out.append(("no letters", "write the letters in order: 'a b c …'"))
    if doubled := sorted({c for c in letters if letters.count(c) > 1}):
        out.append((f"given twice: {' '.join(doubled)}", "give each letter once"))
    if case == "lower" and (capitals := sorted({c for c in letters if c != c.lower()})):
        out.append((f"capitals: {' '.join(capitals)}", "give small letters, or 'case: keep'"))
    if numbers := sorted({c for c in letters if unicodedata.category(c)[0] == "N"}):
        out.append((f"digits: {' '.join(numbers)}", "digits are read out or rejected: see 'digits'"))
    for mark, key in (("'", "apostrophe"), ("-", "hyphen")):
        if mark in letters:
            out.append((f"the {key} is no letter", f"take it out and write '{key}: inner'"))
    return out


def _replacement_problems(key: str, value: str, language: Language) -> list[tuple[str, str]]:
    """Why a replacement could match its own output or write what no rule touches again."""
    out = []
    if strange := sorted(set(value) - {*language.alphabet, " "}):
        out.append((f"'{value}' holds {' '.join(strange)}", "replace by letters of the alphabet and spaces"))
    kept = {*language.alphabet, " "}
    if len(key) == 1 and key in kept:
        out.append((f"'{key}' is in the alphabet", "take it out of the alphabet or out of the replacements"))
    elif len(key) != 1 and all(c in kept or language.normalise(c) == c for c in key):
        problem = f"'{key}' consists of letters only, so it could match what a replacement wrote"
        out.append((problem, "give a single character, or a form with a capital, a digit or punctuation"))
    return out

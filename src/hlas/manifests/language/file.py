"""The YAML form of a language: read strictly, every mistake reported with its line, golden cases beside the rules."""

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Literal

from hlas.errors import UserError, UserErrors, did_you_mean
from hlas.manifests.language.number_words import Digits, num2words_problem
from hlas.manifests.text import REASONS, SPOKEN_SYMBOLS, Language, MarkPolicy
from hlas.params import build_params
from hlas.paths import project_root
from hlas.yamls import Document, read_yaml

EXPECTATIONS: tuple[Literal["out", "reject", "hypothesis"], ...] = ("out", "reject", "hypothesis")


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
    lookalikes: dict[str, str] = field(default_factory=dict)
    spoken_symbols: str = SPOKEN_SYMBOLS
    whisper: _Whisper = field(default_factory=lambda: _Whisper(""))


@dataclass(frozen=True, slots=True)
class GoldenCase:
    """One case of a language YAML: a text, and what the rules make of it or why they reject it."""

    text: str
    expects: Literal["out", "reject", "hypothesis"]  # the key that stands beside `in`
    value: str  # accepted text; reason of the reject; what the text becomes as a hypothesis, which is never rejected
    place: str  # 'file:line'


def language_folder() -> Path:
    """Where the project's languages are."""
    return project_root() / "manifests" / "languages"


def find_language(name: str) -> Path:
    """The YAML of a language given by its code, or by the YAML's own path."""
    if "/" in name or name.endswith(".yaml"):
        return Path(name)
    path = language_folder() / f"{name}.yaml"
    if not path.is_file():
        fix = did_you_mean(name, [file.stem for file in language_folder().glob("*.yaml")])
        raise UserError(name, "no such language", f"{fix}, or draft it: hlas language new {name} --text FILE")
    return path


def code_problem(code: str) -> tuple[str, str] | None:
    """Why a code is none, and what to give instead; None if it is one."""
    if re.fullmatch(r"[a-z]{2,3}([-_][A-Za-z0-9]+)*", code):
        return None
    return f"'{code}' is not a language code", "the locale's name in Common Voice, e.g. hsb, sv-SE"


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
        expects = next((key for key in EXPECTATIONS if isinstance(entry, dict) and set(entry) == {"in", key}), None)
        if expects is None:
            errors.append(UserError(place, "not a golden case", f"give 'in' and one of: {', '.join(EXPECTATIONS)}"))
        elif expects == "reject" and entry["reject"] not in REASONS:
            fix = "one of: " + ", ".join(REASONS)
            errors.append(UserError(place, f"no such reason for a reject: '{entry['reject']}'", fix))
        else:
            cases.append(GoldenCase(str(entry["in"]), expects, str(entry[expects]), place))
    return cases


def _language(keys: _Keys, document: Document, errors: list[UserError]) -> Language | None:
    """The Language that the keys describe, or None with what contradicts itself appended to `errors`."""
    found = len(errors)

    def wrong(problem: str, fix: str, *path: str) -> None:
        errors.append(UserError(document.place(*path), problem, fix))

    if bad_code := code_problem(keys.code):
        wrong(*bad_code, "code")
    letters = "".join(unicodedata.normalize("NFC", keys.alphabet).split())
    for problem, fix in _alphabet_problems(letters, keys.case):
        wrong(problem, fix, "alphabet")
    digits = keys.digits
    if digits.policy != "reject":
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
    lookalikes = {nfc(key): nfc(value) for key, value in keys.lookalikes.items()}
    for key, value in lookalikes.items():
        for problem, fix in _lookalike_problems(key, value, language, replacements):
            wrong(problem, fix, "lookalikes", key)
    return None if len(errors) > found else replace(language, replacements=replacements, lookalikes=lookalikes)


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
    if key.isdecimal() and language.digits.policy != "reject":
        out.append((f"'{key}' is a number, which 'digits' reads", "give 'policy: reject', or leave it out"))
    if strange := sorted(set(value) - {*language.alphabet, " "}):
        out.append((f"'{value}' holds {' '.join(strange)}", "replace by letters of the alphabet and spaces"))
    kept = {*language.alphabet, " "}
    if len(key) == 1 and key in kept:
        out.append((f"'{key}' is in the alphabet", "take it out of the alphabet or out of the replacements"))
    elif len(key) != 1 and all(c in kept or language.normalise(c) == c for c in key):
        problem = f"'{key}' consists of letters only, so it could match what a replacement wrote"
        out.append((problem, "give a single character, or a form with a capital, a digit or punctuation"))
    return out


def _lookalike_problems(
    key: str, value: str, language: Language, replacements: Mapping[str, str]
) -> list[tuple[str, str]]:
    """Why a pair of letters cannot be look-alikes."""
    out = []
    if len(key) != 1 or not key.isalpha():
        out.append((f"'{key}' is not one letter", "give one letter of another script"))
    if key in language.alphabet or key in replacements:
        out.append((f"'{key}' is in the alphabet or among the replacements", "take it out of one of them"))
    if value not in language.alphabet or not value.isalpha():
        out.append((f"'{value}' is no letter of the alphabet", "give one letter of the alphabet"))
    return out

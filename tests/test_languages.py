"""Properties of every shipped language, and what each is said to do."""

import os
import re
import unicodedata
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from hlas.manifests.text import APOSTROPHES, HYPHENS, REASONS, Language, load_language

FOLDER = Path(__file__).parents[1] / "manifests" / "languages"
LANGUAGES = {path.stem: load_language(path) for path in sorted(FOLDER.glob("*.yaml"))}
WANTED = ["ru", "uk", "be", "cs", "sk", "pl", "hsb", "de", "en", "fr", "es", "it", "sr", "sr-Latn", "bg"]
ALL = pytest.mark.parametrize("language", LANGUAGES.values(), ids=LANGUAGES)
SHARED = Path(os.environ.get("HLAS_SHARED_DATA", Path(__file__).parents[2] / "shared" / "data")) / "text"

INVISIBLE = ["\u00ad", "\u200b", "\u200d", "\u2060", "\ufe0f", "\ufeff"]
MARKS = ["\u0300", "\u0301", "\u0302", "\u0306", "\u0307", "\u0308", "\u030c", "\u0328"]
PIECES = [*INVISIBLE, *MARKS, *" ABCEHIKMTXabceiopxyßẞĲǅǆΣςІіЇёѝ0123456789٣²½.,:;!?%&$€№°_/—«»„“\t\n\u00a0\u2028\x02"]


def traps(language: Language) -> list[str]:
    """What the rules look for, and what they should not trip over."""
    return [*language.replacements, *language.lookalikes, *APOSTROPHES, *HYPHENS, *PIECES]


def joined(language: Language, pieces: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """Words of the language with such pieces between and inside them."""
    letters = "".join(c for c in language.alphabet if c.isalpha())
    word = st.text(letters + letters.upper(), min_size=1, max_size=5)
    return st.lists(st.one_of(word, pieces, pieces, st.just(" ")), max_size=12).map("".join)


def any_texts(language: Language) -> st.SearchStrategy[str]:
    """Texts of all sorts of characters."""
    return joined(language, st.sampled_from(traps(language)) | st.characters(exclude_categories=["Cs"]))


def good_texts(language: Language) -> st.SearchStrategy[str]:
    """Texts of which most are accepted."""
    a = language.alphabet[0]
    return joined(language, st.sampled_from([t for t in traps(language) if not language.check(f"{a} {t} {a}").reason]))


def test_the_wanted_languages_are_shipped() -> None:
    assert set(WANTED) <= set(LANGUAGES)


@ALL
@settings(deadline=None, max_examples=40)
@given(data=st.data())
def test_any_text_is_normalised_once_and_for_all(language: Language, data: st.DataObject) -> None:
    text = data.draw(any_texts(language))
    once = language.normalise(text)
    assert language.normalise(once) == once
    for form in ("NFC", "NFD"):
        assert language.normalise(unicodedata.normalize(form, text)) == once


@ALL
@settings(deadline=None, max_examples=40)
@given(data=st.data())
def test_check_accepts_what_the_alphabet_holds_and_agrees_with_normalise(
    language: Language, data: st.DataObject
) -> None:
    text = data.draw(any_texts(language))
    checked = language.check(text)
    if checked.reason:
        assert checked.reason in REASONS
        assert set(checked.detail) == set(checked.text) - {*language.alphabet, " "}
        assert bool(checked.text) == (checked.reason != "no_text")
    else:
        assert checked.text
        assert set(checked.text) <= {*language.alphabet, " "}
        assert checked.text == " ".join(checked.text.split(" ")).strip()
        assert "  " not in checked.text
        assert checked.text == language.normalise(text)
        assert language.check(checked.text) == checked


@ALL
@settings(deadline=None, max_examples=40)
@given(data=st.data())
def test_words_never_merge(language: Language, data: st.DataObject) -> None:
    """True of accepted texts, but where a number or a spaced abbreviation goes on across the seam."""
    left, right = data.draw(good_texts(language)), data.draw(good_texts(language))
    assume(not (re.search(r"\d", left) and re.search(r"\d", right)))
    both = unicodedata.normalize("NFC", f"{left} {right}").lower()
    assume(not any(" " in key and key.lower() in both for key in language.replacements))
    first, second = language.check(left), language.check(right)
    assume(not first.reason and not second.reason)
    assert language.normalise(f"{left} {right}") == f"{first.text} {second.text}"
    assert language.normalise(f"{left}, {right}") == f"{first.text} {second.text}"


@ALL
def test_every_letter_is_accepted_in_both_cases(language: Language) -> None:
    for letter in filter(str.isalpha, language.alphabet):
        capital = "ẞ" if letter == "ß" else letter.upper()
        for form in (letter, capital, unicodedata.normalize("NFD", capital)):
            assert language.check(form).text == letter
            assert not language.check(form).reason


@ALL
def test_marks_follow_their_policy(language: Language) -> None:
    a, b = [c for c in language.alphabet if c.isalpha() and c not in language.digits.ordinals][:2]
    for variants, mark, policy in ((APOSTROPHES, "'", language.apostrophe), (HYPHENS, "-", language.hyphen)):
        inside = {"inner": f"{a}{mark}{b}", "space": f"{a} {b}", "remove": a + b}[policy]
        for variant in variants:
            assert language.check(f"{a}{variant}{b}").text == inside
            for text in (f"{variant}{a} {b}{variant}", f"{a} {variant} {b}", f"{a} {variant}{variant}{b}"):
                assert language.check(text).text == f"{a} {b}"
        assert (mark in language.alphabet) == (policy == "inner")


@ALL
def test_replacements_write_what_they_say(language: Language) -> None:
    a = language.alphabet[0]
    for key, value in language.replacements.items():
        written = language.normalise(f"{a} {key} {a}")
        if value != "'" and unicodedata.category(key[0]) != "Mn":  # these two stand between or over letters
            assert written == " ".join(f"{a} {value} {a}".split())
        assert language.check(written).text == written


@ALL
def test_lookalikes_are_put_right_beside_letters_of_the_alphabet(language: Language) -> None:
    own = next(c for c in language.alphabet if c not in language.lookalikes.values())
    for lookalike, letter in language.lookalikes.items():
        assert language.check(f"{own}{lookalike}").text == own + letter
        assert language.check(lookalike).text == letter
        assert language.check(lookalike + "w").reason == "foreign_letter"
    if language.lookalikes:
        assert language.check("ace").reason == "foreign_letter"


@ALL
def test_numbers_are_read_in_letters_of_the_alphabet(language: Language) -> None:
    numbers = [*range(130), *range(130, 2100, 37), 10**4, 123_456, 10**6, 2 * 10**6, 7 * 10**9]
    for number in numbers:
        read, checked = language.normalise(str(number)), language.check(str(number))
        if language.digits.policy == "reject":
            assert read == str(number)
        else:
            assert set(read) <= {*language.alphabet, " "}
        assert checked.reason == ("" if language.digits.policy == "words" else "digits")


def test_serbian_is_the_same_in_both_scripts() -> None:
    cyrillic, latin = LANGUAGES["sr"], LANGUAGES["sr-Latn"]
    assert latin.check("".join(cyrillic.alphabet)).text == "abvgdđežzijklljmnnjoprstćufhcčdžš"
    for number in (*range(130), 1995, 400, 1_250_000):
        words = cyrillic.normalise(str(number))
        assert latin.normalise(words) == latin.normalise(str(number))


def test_whisper_is_told_a_language_that_it_knows() -> None:
    told = {code: language.whisper_code for code, language in LANGUAGES.items() if language.whisper_code}
    assert told == {"hsb": "cs", "sr-Latn": "sr"}


@pytest.mark.parametrize(
    ("code", "most"),
    [("cs", 0.001), ("de", 0.002), ("en", 0.001), ("hsb", 0.015), ("pl", 0.001), ("ru", 0.001), ("uk", 0.001)],
)
def test_few_sentences_of_common_voice_are_rejected(code: str, most: float) -> None:
    found = sorted(SHARED.glob(f"{code}_cv*.txt"))
    if not found:
        pytest.skip("no shared data here: set HLAS_SHARED_DATA")
    lines = found[0].read_text(encoding="utf-8").splitlines()[::7]
    rejected = [line for line in lines if LANGUAGES[code].check(line).reason]
    assert len(rejected) / len(lines) <= most, rejected[:5]

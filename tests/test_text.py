"""The text rules: golden cases of every shipped language, and properties that hold for any text."""

import pickle
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hlas.errors import UserError, UserErrors
from hlas.manifests.language.number_words import Digits
from hlas.manifests.text import APOSTROPHES, HYPHENS, Language, golden_failures, load_language

FOLDER = Path(__file__).parents[1] / "manifests" / "languages"
SHIPPED = sorted(FOLDER.glob("*.yaml"))
EN, HSB = load_language(FOLDER / "en.yaml"), load_language(FOLDER / "hsb.yaml")
NASTY = Language(  # every policy that the shipped languages do not use
    code="tr",
    name="test",
    alphabet=tuple("abcçdeıiöşß'-"),
    apostrophe="everywhere",
    hyphen="inner",
    digits=Digits("words", num2words="tr", thousands=".", decimal=","),
    replacements={"I": "ı", "İ": "i", "ë": "e", "·": "", "d.a.": "de aa", "&": " b ", "\u0301": "", "\u0308": ""},
    lookalikes={"а": "a", "е": "e", "і": "i", "В": "b"},
)

# letters of several scripts, marks, digits, punctuation, invisible characters and what rules look for
CHARS = st.one_of(
    st.sampled_from([*"abcdeIİıiëöÖßẞšŠĆžěǰΣσςЁёйñ", *APOSTROPHES, *HYPHENS, *"0123456789٣²½.,:&%$€·d·a. \t\n"]),
    st.sampled_from(["́", "̌", "̇", "\u00ad", "\u200b", "\u2060", "\ufe0f", "\u2028", "\x02", "\ufeff"]),
    st.characters(exclude_categories=["Cs"]),
)
TEXTS = st.text(CHARS, max_size=30)


def write(folder: Path, text: str) -> Path:
    path = folder / "xx.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_languages_are_shipped() -> None:
    assert {"en.yaml", "hsb.yaml"} <= {path.name for path in SHIPPED}


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_golden_cases_of_shipped_languages(path: Path) -> None:
    language = load_language(path)
    assert language.code == path.stem
    assert golden_failures(language, path) == []


@pytest.mark.parametrize("language", [EN, HSB, NASTY], ids=lambda language: language.code)
@settings(deadline=None)
@given(text=TEXTS)
def test_normalising_twice_changes_nothing(language: Language, text: str) -> None:
    once = language.normalise(text)
    assert language.normalise(once) == once


@pytest.mark.parametrize("language", [EN, HSB, NASTY], ids=lambda language: language.code)
@settings(deadline=None)
@given(text=TEXTS)
def test_accepted_text_holds_only_the_alphabet(language: Language, text: str) -> None:
    checked = language.check(text)
    if checked.reason:
        assert set(checked.detail).isdisjoint({*language.alphabet, " "})
        assert set(checked.detail) <= set(checked.text)
    else:
        assert checked.text
        assert set(checked.text) <= {*language.alphabet, " "}
        assert checked.text == " ".join(checked.text.split())


def test_a_replacement_matches_a_letter_that_only_came_together() -> None:
    assert NASTY.normalise("e\u00ad\u0308b") == NASTY.normalise("ëb") == "eb"


def test_no_diacritic_is_stripped() -> None:
    letters = [c for c in map(chr, range(0xC0, 0x250)) if unicodedata.decomposition(c) and c.isalpha()]
    assert len(letters) > 200
    for letter in letters:
        for language in (EN, HSB):
            for form in (letter, unicodedata.normalize("NFD", letter)):
                out = language.normalise(f"a{form}b")
                assert out == unicodedata.normalize("NFC", f"a{letter.lower()}b")
                inside = set(out) <= set(language.alphabet)
                assert language.check(f"a{form}b").reason == ("" if inside else "foreign_letter")


def test_a_mark_joins_its_letter_when_what_is_between_them_goes() -> None:
    assert HSB.normalise("c\u00ad\u030cas") == "čas"
    assert HSB.normalise("J\u030c") == "ǰ"  # only the small letter has a composed form


def test_a_letter_under_a_heap_of_marks_is_rejected() -> None:
    heap = "е" + "\u0308" * 5000  # the first mark makes ё, which becomes е, which takes the next
    assert load_language(FOLDER / "ru.yaml").check(f"вс{heap}").reason == "foreign_letter"


@pytest.mark.parametrize(
    ("policy", "out"),
    [
        ("inner", "a'b c d e f"),
        ("everywhere", "a'b 'c' d' ''e ' f"),
        ("space", "a b c d e f"),
        ("remove", "ab c d e f"),
    ],
)
def test_apostrophe_policies(policy: str, out: str) -> None:
    marks = ("'",) if policy in ("inner", "everywhere") else ()
    language = Language("xx", "test", (*"abcdef", *marks), apostrophe=policy)  # type: ignore[arg-type]  # a MarkPolicy
    assert language.normalise("a’b ‘c’ d` ''e ´ f") == out


@pytest.mark.parametrize(
    ("policy", "out"), [("inner", "a-b c d e f"), ("space", "a b c d e f"), ("remove", "ab c d e f")]
)
def test_hyphen_policies(policy: str, out: str) -> None:
    language = Language("xx", "test", (*"abcdef", *("-" * (policy == "inner"))), hyphen=policy)  # type: ignore[arg-type]  # a MarkPolicy
    assert language.normalise("a‑b - c -d e– f") == out


def test_replacements_with_a_capital_come_before_lower_casing() -> None:
    assert NASTY.normalise("Iİ ıi ISI") == "ıi ıi ısı"


def test_a_longer_replacement_matches_whole_words_and_writes_whole_words() -> None:
    assert EN.normalise("Mr. Hmr. Mr.Brown") == "mister hmr mister brown"


@pytest.mark.parametrize(
    ("text", "out"),
    [
        ("bаd", "bad"),  # the Cyrillic letter in a Latin word
        ("Вad а", "bad a"),  # one whose capital alone looks alike; one as a word by itself
        ("вad", "вad"),
        ("ааа а-а", "ааа a-a"),  # a word of look-alikes only is a foreign word
        ("b\u00adа", "ba"),
    ],
)
def test_lookalikes_are_put_right_in_words_of_the_alphabet(text: str, out: str) -> None:
    assert NASTY.normalise(text) == out


def test_digits_are_read_in_hypotheses_only_where_the_policy_says_so() -> None:
    language = Language("de", "test", tuple("abcdefghiklmnorstuvwzßöü"), digits=Digits("hypotheses", num2words="de"))
    assert language.normalise("2 Mio., 1000000") == "zwei mio eine million"
    assert language.check("2 Mio.") == type(language.check(""))("2 mio", "digits", "2")


@pytest.mark.parametrize(
    ("text", "out"),
    [
        ("3,5", "drei komma fünf"),
        ("3,05", "drei komma null fünf"),
        ("3,00", "drei komma null null"),
        ("1\u202f234", "eins acht vier"),
        ("1 2345", "eins zwei acht"),
    ],
)
def test_numbers_with_a_word_for_the_decimal_sign_and_respelt_words(text: str, out: str) -> None:
    respell = {
        "eintausendzweihundertvierunddreißig": "eins acht vier",
        "zweitausenddreihundertfünfundvierzig": "zwei acht",
    }
    digits = Digits("words", "de", thousands=" ", decimal=",", decimal_word="komma", respell=respell)
    assert Language("de", "test", tuple("abc"), digits=digits).normalise(text) == out


@pytest.mark.parametrize(
    ("text", "out"),
    [
        ("7", "seven"),
        ("1,234,567.5", "one million two hundred and thirty four thousand five hundred and sixty seven point five"),
        ("12,34", "twelve thirty four"),
        (
            "1995 and 2,015 and 999",
            "nineteen ninety five and two thousand and fifteen and nine hundred and ninety nine",
        ),
        ("3rd 22nd", "third twenty second"),
        ("£1500", "one thousand five hundred pounds"),
        ("٣", "three"),
        ("1" + "0" * 400, "one" + " zero" * 400),
        ("H2O", "h two o"),
    ],
)
def test_english_numbers_are_read_out(text: str, out: str) -> None:
    assert EN.normalise(text) == out


def test_digits_stay_where_num2words_does_not_know_the_language() -> None:
    assert HSB.normalise("lěto 1912.") == "lěto 1912"
    assert HSB.check("lěto 1912.") == type(HSB.check(""))("lěto 1912", "digits", "129")


def test_hsb_tells_whisper_czech() -> None:
    assert (HSB.whisper_code, EN.whisper_code) == ("cs", "")


def test_a_language_travels_to_workers() -> None:
    again = pickle.loads(pickle.dumps(NASTY))
    assert again == NASTY
    assert again.normalise("D.A. ‑ Öş 21&ë") == NASTY.normalise("D.A. ‑ Öş 21&ë") == "de aa öş yirmibir b e"


MINIMAL = "code: xx\nname: X\nversion: 1\nalphabet: a b c\n"


def test_a_wrong_golden_case_is_reported_with_its_line(tmp_path: Path) -> None:
    cases = ("{in: 'A, b', out: a b}", "{in: 'A', out: b}", "{in: ö, reject: digits}", "{in: c, reject: no_text}")
    path = write(tmp_path, MINIMAL + "golden:\n" + "".join(f"  - {case}\n" for case in cases))
    errors = golden_failures(load_language(path), path)
    assert [error.where.rsplit(":", 1)[1] for error in errors] == ["7", "8", "9"]
    assert "gives 'a', expected 'b'" in errors[0].problem
    assert "gives reject: foreign_letter (ö), expected reject: digits" in errors[1].problem


def test_a_language_without_golden_cases_is_reported(tmp_path: Path) -> None:
    path = write(tmp_path, MINIMAL)
    (error,) = golden_failures(load_language(path), path)
    assert "no golden cases" in error.problem


def test_norwegian_is_a_language_and_not_a_boolean(tmp_path: Path) -> None:
    assert load_language(write(tmp_path, MINIMAL.replace("xx", "no"))).code == "no"


@pytest.mark.parametrize(
    ("yaml", "problems"),
    [
        (MINIMAL + "alfabet: d\ncase: upper\n", ["5: language: unknown key 'alfabet'", "6: language.case"]),
        (MINIMAL + "digits: {policy: words, foo: 1}\n", ["digits.foo: no such key"]),
        (MINIMAL + "whisper: {cod: cs}\n", ["whisper.code: is missing", "whisper.cod: no such key"]),
        ("name: X\nversion: 1\n", ["language.code: is missing", "language.alphabet: is missing"]),
        (MINIMAL.replace("a b c", "a b B b"), ["given twice: b", "capitals: B"]),
        (MINIMAL.replace("a b c", "a '7"), ["digits: 7", "the apostrophe is no letter"]),
        (MINIMAL.replace("a b c", "' '"), ["no letters"]),
        (MINIMAL.replace("xx", "XX"), ["'XX' is not a language code"]),
        (MINIMAL + "digits: {policy: words, num2words: csb}\n", ["5: num2words has no language 'csb'"]),
        (MINIMAL + "digits: {policy: words, num2words: cs, ordinals: [x]}\n", ["cannot read a number as ordinal"]),
        (MINIMAL + "replacements: {'&': ö}\n", ["'ö' holds ö"]),
        (MINIMAL + "replacements: {a: b}\n", ["'a' is in the alphabet"]),
        (MINIMAL + "replacements: {ab: c}\n", ["could match what a replacement wrote"]),
        (MINIMAL + "digits: {policy: words, num2words: cs}\nreplacements: {'2': b}\n", ["'2' is a number"]),
        (
            MINIMAL + "lookalikes: {а: ab, b: c, вв: b}\n",
            ["'ab' is no letter", "'b' is in the alphabet", "'вв' is not"],
        ),
        (MINIMAL + "golden: [{in: a}, {in: a, reject: rain}]\n", ["not a golden case", "no such reason"]),
        (MINIMAL + "golden: {in: a}\n", ["not a list"]),
    ],
)
def test_every_mistake_of_a_language_file_is_reported(tmp_path: Path, yaml: str, problems: list[str]) -> None:
    with pytest.raises(UserErrors) as caught:
        load_language(write(tmp_path, yaml))
    assert len(caught.value.errors) == len(problems)
    for problem in problems:
        assert problem in str(caught.value)


def test_a_missing_language_file_is_a_user_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        load_language(tmp_path / "yy.yaml")

"""Digits read out in words, as far as num2words knows the language.

Reading is best effort: a transcript with digits does not say how they were spoken. What is read is the same for
references, LM text and hypotheses, so no system gains by the way it writes numbers. Where a number's words change with
their case and gender ('hypotheses'), a transcript with digits is rejected, and only what a system wrote is read.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from functools import lru_cache
from typing import Literal

SPACES = " \u00a0\u2009\u202f"  # what stands between groups of digits where the sign for thousands is a space


@dataclass(frozen=True, slots=True)
class Digits:
    """What happens to digits."""

    # words: read out; hypotheses: read out, but a transcript with digits is rejected; reject: they stay everywhere
    policy: Literal["words", "hypotheses", "reject"] = "reject"
    num2words: str = ""  # num2words' code of the language
    thousands: str = ""  # sign between groups of three digits: '1,000'; a space means any kind of space
    decimal: str = ""  # sign before a fraction: '3.5'
    decimal_word: str = ""  # how that sign is read, where num2words does it otherwise; the fraction is then one number
    ordinals: tuple[str, ...] = ()  # suffixes that make an ordinal number: '21st'
    years: tuple[int, int] | None = None  # a bare four-digit number from … to … is read as a year
    currency: Mapping[str, str] = field(default_factory=dict)  # sign before a number -> word after it: '$5'
    respell: Mapping[str, str] = field(default_factory=dict)  # part of num2words' words -> how the language writes it


class NumberReader:
    """Replaces the numbers of a text by words; the text is in lower case."""

    def __init__(self, digits: Digits) -> None:
        self._digits = digits
        whole = r"\d+"
        if digits.thousands:
            sign = f"[{SPACES}]" if digits.thousands == " " else re.escape(digits.thousands)
            whole = rf"\d{{1,3}}(?:{sign}\d{{3}})+(?!\d)|\d+"
        fraction = rf"(?:{re.escape(digits.decimal)}(?P<fraction>\d+))?" if digits.decimal else "(?P<fraction>)"
        sign = "(?P<sign>[" + re.escape("".join(digits.currency)) + r"])?\s?" if digits.currency else "(?P<sign>)"
        suffixes = "|".join(map(re.escape, digits.ordinals))
        ordinal = rf"(?P<ordinal>(?:{suffixes})\b)?" if suffixes else "(?P<ordinal>)"
        self._number = re.compile(f"{sign}(?P<whole>{whole}){fraction}{ordinal}")
        longest_first = sorted(digits.respell, key=len, reverse=True)
        self._respell = re.compile("|".join(map(re.escape, longest_first))) if longest_first else None

    def __call__(self, text: str) -> str:
        """The text with every run of digits in words."""
        return self._number.sub(self._words, text)

    def _words(self, match: re.Match[str]) -> str:
        digits = self._digits
        written, fraction = match["whole"], match["fraction"] or ""
        whole = _NO_DIGITS.sub("", written)
        plain = not fraction and not match["sign"] and written == whole
        year = plain and digits.years and len(whole) == 4 and digits.years[0] <= int(whole) <= digits.years[1]
        form = "ordinal" if match["ordinal"] else "year" if year else "cardinal"
        if fraction and digits.decimal_word:
            words = f"{self._read(form, whole)} {digits.decimal_word} {self._read_fraction(fraction)}"
        else:
            words = self._read(form, whole, fraction)
        unit = digits.currency.get(match["sign"], "") if match["sign"] else ""
        return f" {words} {unit} "

    def _read(self, form: str, whole: str, fraction: str = "") -> str:
        words = read_number(self._digits.num2words, form, whole, fraction)
        return self._respell.sub(lambda match: self._digits.respell[match[0]], words) if self._respell else words

    def _read_fraction(self, fraction: str) -> str:
        """'05' as zero and five, '25' as twenty-five."""
        zeros = len(fraction) - len(fraction.lstrip("0"))
        parts = [*fraction[:zeros], fraction[zeros:]] if zeros < len(fraction) else list(fraction)
        return " ".join(self._read("cardinal", part) for part in parts)


_NO_DIGITS = re.compile(r"\D")


@lru_cache(maxsize=1 << 14)
def read_number(language: str, form: str, whole: str, fraction: str) -> str:
    """Words of one number; digit by digit with a leading zero ('007') and where num2words fails."""
    from num2words import num2words

    if whole[0] != "0" or len(whole) == 1:
        try:
            number = Decimal(f"{whole}.{fraction}") if fraction else int(whole)
            return str(num2words(number, lang=language, to=form))
        except Exception:  # its languages raise all sorts: too large, no ordinals, no fractions
            pass
    return " ".join(str(num2words(int(digit), lang=language)) for digit in whole + fraction)


def num2words_problem(digits: Digits) -> str:
    """Why num2words cannot do what `digits` asks of it; '' if it can.

    num2words itself cuts an unknown code to two letters ('csb', Kashubian, becomes Czech), hence the exact look-up.
    """
    from num2words import CONVERTER_CLASSES, num2words

    code = digits.num2words
    if code not in CONVERTER_CLASSES and not (code[2:3] in ("_", "-") and code[:2] in CONVERTER_CLASSES):
        return f"num2words has no language '{code}'"
    for wanted, form, number in ((digits.ordinals, "ordinal", 2), (digits.years, "year", 1995)):
        try:
            if wanted:
                num2words(number, lang=code, to=form)
        except Exception:  # a language without that form, in whichever way it says so
            return f"num2words cannot read a number as {form} in '{code}'"
    return ""

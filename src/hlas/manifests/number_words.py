"""Digits read out in words, as far as num2words knows the language.

Reading is best effort: a transcript with digits does not say how they were spoken. What is read is the same for
references, LM text and hypotheses, so no system gains by the way it writes numbers.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from functools import lru_cache
from typing import Literal


@dataclass(frozen=True, slots=True)
class Digits:
    """What happens to digits."""

    policy: Literal["words", "reject"] = "reject"  # words: read out; reject: they stay, and a transcript is rejected
    num2words: str = ""  # num2words' code of the language
    thousands: str = ""  # sign between groups of three digits: '1,000'
    decimal: str = ""  # sign before a fraction: '3.5'
    ordinals: tuple[str, ...] = ()  # suffixes that make an ordinal number: '21st'
    years: tuple[int, int] | None = None  # a bare four-digit number from … to … is read as a year
    currency: Mapping[str, str] = field(default_factory=dict)  # sign before a number -> word after it: '$5'


class NumberReader:
    """Replaces the numbers of a text by words; the text is in lower case."""

    def __init__(self, digits: Digits) -> None:
        self._digits = digits
        whole = r"\d+"
        if digits.thousands:
            whole = rf"\d{{1,3}}(?:{re.escape(digits.thousands)}\d{{3}})+(?!\d)|\d+"
        fraction = rf"(?:{re.escape(digits.decimal)}(?P<fraction>\d+))?" if digits.decimal else "(?P<fraction>)"
        sign = "(?P<sign>[" + re.escape("".join(digits.currency)) + r"])?\s?" if digits.currency else "(?P<sign>)"
        suffixes = "|".join(map(re.escape, digits.ordinals))
        ordinal = rf"(?P<ordinal>(?:{suffixes})\b)?" if suffixes else "(?P<ordinal>)"
        self._number = re.compile(f"{sign}(?P<whole>{whole}){fraction}{ordinal}")

    def __call__(self, text: str) -> str:
        """The text with every run of digits in words."""
        return self._number.sub(self._words, text)

    def _words(self, match: re.Match[str]) -> str:
        digits = self._digits
        written, fraction = match["whole"], match["fraction"] or ""
        whole = written.replace(digits.thousands, "") if digits.thousands else written
        plain = not fraction and not match["sign"] and written == whole
        if match["ordinal"]:
            words = read_number(digits.num2words, "ordinal", whole, fraction)
        elif plain and digits.years and len(whole) == 4 and digits.years[0] <= int(whole) <= digits.years[1]:
            words = read_number(digits.num2words, "year", whole, "")
        else:
            words = read_number(digits.num2words, "cardinal", whole, fraction)
        unit = digits.currency.get(match["sign"], "") if match["sign"] else ""
        return f" {words} {unit} "


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
        except Exception:  # as above
            return f"num2words cannot read a number as {form} in '{code}'"
    return ""

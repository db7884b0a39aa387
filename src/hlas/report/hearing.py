"""What Whisper was told before it heard the clips, and what it holds against its own texts: for page and Markdown."""

from collections.abc import Sequence

from hlas.manifests.text import Language
from hlas.models.transcripts import DOUBTS
from hlas.report.evaluate import SplitResult, SystemResult
from hlas.report.headline import listed

HEARING_COLUMNS = ("system", "language told", "window", "doubted texts", *(name.replace("_", " ") for name in DOUBTS))


def hearing_rows(result: SplitResult) -> list[list[str]]:
    """Cells under HEARING_COLUMNS, a row for each system that was told a language or doubts a text; often none."""
    rows = []
    for item in result.systems:
        doubts = item.doubts
        if item.system.told or doubts:
            head = [item.name, _language_told(item), _window(item), f"{item.doubted} of {len(item.hypotheses)}"]
            rows.append([*head, *(str(doubts.get(name, 0)) for name in DOUBTS)])
    return rows


def hearing_note(result: SplitResult) -> str:
    """What stands under that table: the meaning of the doubts that are counted in it; '' where there are none."""
    found = {name for item in result.systems for name in item.doubts}
    meanings = [f"{_spoken(name)}: {meaning}." for name, meaning in DOUBTS.items() if name in found]
    return " ".join(["Such texts count in all rates.", *meanings]) if found else ""


def hearing_caveats(result: SplitResult, language: Language | None) -> list[str]:
    """Which systems were told another language than is spoken, or none, and how many texts each one doubts itself."""
    out = []
    told: dict[str, list[str]] = {}
    for item in result.systems:
        if code := item.system.told.get("told_language", ""):
            told.setdefault(code, []).append(item.name)
    for code, names in told.items():
        was = "was" if len(names) == 1 else "were"
        if code == "auto":
            out.append(f"{listed(names)} {was} told no language and guessed it for each clip.")
        elif language and _base(code) != _base(language.code):
            out.append(f"{listed(names)} {was} told that the language is '{code}', not '{language.code}'.")
    if doubted := [item for item in result.systems if item.doubts]:
        out.append(f"Texts that a system doubts itself, on {result.split}: {_doubts_in_words(doubted)}.")
    return out


def _doubts_in_words(items: Sequence[SystemResult]) -> str:
    parts = []
    for item in items:
        why = ", ".join(f"{_spoken(name)} {count}" for name, count in item.doubts.items())
        parts.append(f"{item.name} {item.doubted} of {len(item.hypotheses)} ({why})")
    return "; ".join(parts)


def _spoken(doubt: str) -> str:
    return doubt.replace("_", " ")


def _base(code: str) -> str:
    """The language of a code with a region or a script."""
    return code.partition("-")[0]


def _language_told(item: SystemResult) -> str:
    code = str(item.system.told.get("told_language", ""))
    return "none: guessed for each clip" if code == "auto" else code


def _window(item: SystemResult) -> str:
    if "padding_s" not in item.system.told:
        return ""
    padding_s = item.system.told["padding_s"]
    return "30 s" if padding_s is None else f"clip and {padding_s:g} s, at most 30 s"

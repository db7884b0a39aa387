"""The command `stats`: find the manifests, measure them, write stats.json and stats.html, say the main numbers."""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hlas.errors import UserError
from hlas.files import atomic_text, read_json, write_json
from hlas.manifests.audit import SharedText, audit_text
from hlas.manifests.rows import read_manifest
from hlas.manifests.text import Language
from hlas.stages import MANIFEST_SPLITS
from hlas.stats.measure import SplitStats, measure
from hlas.stats.page import page

AUDIT = "audit.json"  # written by the manifests stage beside its manifests


@dataclass(frozen=True, slots=True)
class Texts:
    """Text files, such as an LM's, in which the manifests' sentences are looked for."""

    files: tuple[Path, ...]
    language: Language
    workers: int = 1


def explore(paths: Sequence[Path], out: Path, title: str, texts: Texts | None = None) -> list[str]:
    """Write stats.json and stats.html into `out`; returns lines for the terminal."""
    manifests = find_manifests(paths)
    measured = measure(manifests)
    shared = _shared(manifests, texts) if texts else []
    audits = {str(folder): _audit(folder / AUDIT) for folder in _folders(manifests) if (folder / AUDIT).is_file()}
    heading = title or " · ".join("/".join(path.absolute().parts[-2:]) for path in paths)
    numbers = {s.split: s.to_json() for s in measured}
    write_json(out / "stats.json", {"splits": numbers, "audit": audits, "texts": [asdict(s) for s in shared]})
    with atomic_text(out / "stats.html") as file:
        file.write(page(heading, measured, list(audits.values()), shared))
    found = [f"{s.text}: {s.shared} sentences of {s.split} stand in it" for s in shared]
    return [*(_line(s) for s in measured), *found, f"page: {out / 'stats.html'}", f"numbers: {out / 'stats.json'}"]


def _shared(manifests: Mapping[str, Path], texts: Texts) -> list[SharedText]:
    splits = {name: read_manifest(path) for name, path in manifests.items()}
    with tempfile.TemporaryDirectory(prefix="hlas-stats.") as scratch:
        return audit_text(splits, texts.files, texts.language, Path(scratch), texts.workers)


def find_manifests(paths: Sequence[Path]) -> dict[str, Path]:
    """The manifests of the paths by name: of a folder those a manifests stage writes, of a file itself.

    Several that share a name are told apart by their folder's name.
    """
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            here = [path / name for name in MANIFEST_SPLITS.values() if (path / name).is_file()]
            if not here:
                names = ", ".join(MANIFEST_SPLITS.values())
                raise UserError(str(path), f"none of {names} in this folder", "give a manifests stage's folder")
            found += here
        elif path.is_file():
            found.append(path)
        else:
            raise UserError(str(path), "no such file or folder", "give a manifests stage's folder, or .jsonl files")
    stems = [path.stem for path in found]
    out: dict[str, Path] = {}
    for path in found:
        name = path.stem if stems.count(path.stem) == 1 else f"{path.resolve().parent.name}/{path.stem}"
        if name in out:
            raise UserError(str(path), f"'{name}' is named twice", "name each manifest once")
        out[name] = path
    return out


def _audit(path: Path) -> dict[str, Any]:
    try:
        found = read_json(path)
    except ValueError as error:
        raise UserError(str(path), f"not JSON: {error}", "run the manifests stage again, or take it away") from error
    if not isinstance(found, dict):
        raise UserError(str(path), "not an audit", "run the manifests stage again, or take it away")
    return found


def _folders(manifests: Mapping[str, Path]) -> list[Path]:
    return list(dict.fromkeys(path.parent for path in manifests.values()))


def _line(s: SplitStats) -> str:
    unseen = "" if s.unseen_words is None else f", {100 * s.unseen_words:.1f} % of the words not in train"
    q = s.duration_s.quantiles
    return (
        f"{s.split}: {s.utterances} utterances, {s.hours:.2f} h, {s.speakers} speakers "
        f"(the largest {100 * s.largest_speaker:.0f} %), {s.words} words, {s.types} different{unseen}; "
        f"{q['p5']:.1f}–{q['p95']:.1f} s (5–95 %)"
    )

"""Where the numbers come from: every stage behind the systems, in data-flow order, with what it counted and used."""

import json
import shlex
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hlas.report.systems import System
from hlas.store import Record, ancestors


@dataclass(frozen=True, slots=True)
class Provenance:
    """The finished stages that the report rests on, makers before readers."""

    stages: tuple[tuple[Path, Record], ...]  # (folder, record)

    @property
    def seconds(self) -> float:
        """Wall-clock of all stages together."""
        return sum(record.seconds for _, record in self.stages)

    def to_json(self) -> list[dict[str, Any]]:
        """For metrics.json: what identifies each stage and what it counted, without times."""
        return [
            {
                "name": record.name,
                "kind": record.kind,
                "folder": folder.name,
                "fingerprint": record.fingerprint,
                "outside_inputs": dict(outside_inputs(record)),
                "commit": record.environment.get("commit", ""),
                "counts": record.summary.get("counts", {}),
            }
            for folder, record in self.stages
        ]


def trace(systems: Iterable[System], further: Mapping[Path, str]) -> Provenance:
    """The stages behind the systems and behind `further` stage folders, each once.

    `further` has the names that this recipe gives those: another recipe that made them first may have other names.
    """
    found: dict[Path, Record] = {}
    for system in systems:
        found.update(system.chain)
    for folder in further:
        found.update(ancestors(folder))
    for folder, name in further.items():
        found[folder.resolve()] = replace(found[folder.resolve()], name=name)
    ordered: dict[Path, Record] = {}

    def add(folder: Path) -> None:
        if folder in found and folder not in ordered:
            record = found[folder]
            for sources in record.inputs.values():
                for source in sources:
                    if source.folder:
                        add(folder.parent / source.folder)
            ordered[folder] = record

    for folder in found:
        add(folder)
    return Provenance(tuple(ordered.items()))


def outside_inputs(record: Record) -> Iterator[tuple[str, str]]:
    """('release: data/hsb', its SHA-256) for each file or folder that came from outside."""
    hashes = record.ingredients.get("inputs", {})
    for key, sources in record.inputs.items():
        for source, entry in zip(sources, hashes.get(key, ()), strict=False):  # an old record may lack them
            if not source.folder and isinstance(entry, str):
                yield f"{key}: {source.path}", entry


def fingerprints(provenance: Provenance) -> tuple[tuple[str, str], ...]:
    """(stage, fingerprint) of each stage, and (stage.input: path, SHA-256) of the data from outside."""
    out = []
    for _, record in provenance.stages:
        out.append((record.name, record.fingerprint))
        out += [(f"{record.name}.{name}", digest) for name, digest in outside_inputs(record)]
    return tuple(out)


def command_line() -> str:
    """The command that runs now, as it was typed."""
    return shlex.join(["hlas", *sys.argv[1:]])


def resolved_recipe(home: Path) -> tuple[tuple[str, str], ...]:
    """(name, YAML) of the recipe whose results are in the folder; empty where it keeps none."""
    path = home / "recipe.resolved.yaml"
    return ((home.name, path.read_text(encoding="utf-8")),) if path.is_file() else ()


def machine(record: Record) -> str:
    """The machine a stage ran on, in words: its GPU, or its processor, and the cores."""
    data = record.environment.get("machine")
    if not isinstance(data, Mapping):
        return str(data or "")
    parts = [data.get("gpu"), data.get("processor"), f"{data['cores']} cores" if data.get("cores") else ""]
    return ", ".join(str(part) for part in parts if part)


def versions(provenance: Provenance) -> dict[str, str]:
    """Library -> version over all stages; where stages differ, every version with the stages that used it."""
    used: dict[str, dict[str, list[str]]] = {}
    for _, record in provenance.stages:
        libraries = {"python": record.environment.get("python")} | dict(record.environment.get("versions") or {})
        for library, version in libraries.items():
            if version:
                used.setdefault(library, {}).setdefault(str(version), []).append(record.name)
    return {
        library: "; ".join(
            version if len(by_version) == 1 else f"{version} ({', '.join(names)})"
            for version, names in by_version.items()
        )
        for library, by_version in used.items()
    }


@dataclass(frozen=True, slots=True)
class Epoch:
    """One line of a train stage's curve.jsonl that has a dev WER; what older versions did not keep is None."""

    epoch: int  # from 0
    dev_wer: float
    dev_cer: float | None = None
    train_loss: float | None = None
    dev_loss: float | None = None


def read_curve(folder: Path) -> list[Epoch]:
    """What each epoch of a train stage reached on dev; empty where the stage kept no curve."""
    rows = [row for row in _json_lines(folder / "curve.jsonl") if row.get("dev_wer") is not None]
    return [Epoch(row["epoch"], row["dev_wer"], *map(row.get, ("dev_cer", "train_loss", "dev_loss"))) for row in rows]


def read_samples(folder: Path) -> dict[int, list[tuple[str, str]]]:
    """Epoch, from 0 -> (reference, hypothesis) of a train stage's sample utterances, the same ones in every epoch."""
    out: dict[int, list[tuple[str, str]]] = {}
    for row in _json_lines(folder / "samples.jsonl"):
        out.setdefault(row["epoch"], []).append((row["reference"], row["hypothesis"]))
    return out


def _json_lines(path: Path) -> list[dict[str, Any]]:
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    return [json.loads(line) for line in lines]

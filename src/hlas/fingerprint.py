"""What a stage's result depends on, hashed: the same ingredients, the same result, no second run.

Ingredients: kind, VERSION, resolved parameters (defaults included), the rules of its language, the fingerprints of the
stages it reads, outside inputs. Not among them: workers, device, output paths, comments, golden cases.
"""

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from hlas.errors import UserError
from hlas.files import read_json, sha256_file, sha256_json, write_json
from hlas.inputs import Edge, Outside
from hlas.paths import shown
from hlas.recipe import Recipe, StageSpec
from hlas.stages import KINDS
from hlas.yamls import read_yaml

AUDIO = (".mp3", ".wav", ".flac", ".ogg", ".opus")  # a release has a million of them
NOT_IN_RESULT = ("device",)  # parameters that say where the work is done


class Hashes:
    """SHA-256 of outside files, kept by path, size and modification time so that a plan reads nothing twice."""

    def __init__(self, cache: Path) -> None:
        self._cache = cache
        try:
            known = read_json(cache)
        except (OSError, ValueError):
            known = {}
        self._known: dict[str, list[Any]] = known if isinstance(known, dict) else {}
        self._fresh = False

    def of_file(self, path: Path) -> str:
        """Hash of one file's bytes."""
        stat = path.stat()
        key, state = str(path.resolve()), [stat.st_size, stat.st_mtime_ns]
        known = self._known.get(key)
        if isinstance(known, list) and known[:2] == state:
            return str(known[2])
        self._known[key] = [*state, sha256_file(path)]
        self._fresh = True
        return str(self._known[key][2])

    def save(self) -> None:
        """Keep what was hashed for the next plan; nothing is written where there is no store yet."""
        if self._fresh and self._cache.parent.is_dir():
            with suppress(OSError):  # a cache that cannot be written costs time, not results
                write_json(self._cache, self._known)

    def of_path(self, path: Path) -> str:
        """Hash of a file, or of a folder: all its bytes, but of audio only the sorted names and sizes."""
        if path.is_file():
            return self.of_file(path)
        listing: list[tuple[str, int | str]] = []
        seen: set[tuple[int, int]] = set()
        for folder, folders, files in os.walk(path, followlinks=True):
            stat = Path(folder).stat()
            if (stat.st_dev, stat.st_ino) in seen:  # a link that leads back
                folders.clear()
                continue
            seen.add((stat.st_dev, stat.st_ino))
            folders.sort()
            for name in sorted(files):
                file = Path(folder, name)
                relative = str(file.relative_to(path))
                if not file.is_file():
                    listing.append((relative, "no file"))
                elif file.suffix.lower() in AUDIO:
                    listing.append((relative, file.stat().st_size))
                else:
                    listing.append((relative, self.of_file(file)))
        return sha256_json(listing)


def ingredients(
    recipe: Recipe, stage: StageSpec, made: Mapping[str, str], hashes: Hashes
) -> tuple[dict[str, Any], list[UserError]]:
    """What the stage's fingerprint is a hash of, and the outside inputs that are missing.

    `made`: fingerprints of the stages before it.
    """
    missing: list[UserError] = []
    inputs: dict[str, Any] = {}
    for key, items in stage.inputs.items():
        entries: list[str | list[str]] = []
        for item in items:
            if isinstance(item, Edge):
                entries.append([made[item.stage], item.output])
            else:
                entries.append(_outside(stage, key, item, hashes, missing))
        inputs[key] = entries
    kind = KINDS[stage.kind]
    params = {key: value for key, value in stage.plain.items() if key not in NOT_IN_RESULT}
    out: dict[str, Any] = {"kind": stage.kind, "version": kind.version, "params": params, "inputs": inputs}
    if stage.language:
        rules = read_yaml(stage.language).data
        out["language"] = {k: v for k, v in rules.items() if k != "golden"}
    if kind.names_matter:  # a report shows the names of its systems
        out["recipe"] = recipe.name
        out["names"] = {key: [str(i) for i in items] for key, items in stage.inputs.items()}
    return json.loads(json.dumps(out)), missing


def _outside(stage: StageSpec, key: str, item: Outside, hashes: Hashes, missing: list[UserError]) -> str:
    where = f"{stage.place}: {stage.name}.{key}"
    takes = KINDS[stage.kind].reads[key].path
    if item.path is None:
        missing.append(UserError(where, f"'{item.written}' names a variable that is unset", f"set it to a {takes}"))
    elif not item.path.exists():
        missing.append(
            UserError(where, f"no such {takes}: {shown(item.path)}", "mend the path; it starts at the project's root")
        )
    else:
        return hashes.of_path(item.path)
    return "missing"


def changed(old: Mapping[str, Any], new: Mapping[str, Any], path: str = "") -> list[str]:
    """Names of the ingredients that differ, deepest key first named ('params.model.optim.lr')."""
    out: list[str] = []
    for key in dict.fromkeys([*new, *old]):
        before, after = old.get(key), new.get(key)
        if before == after:
            continue
        if isinstance(before, dict) and isinstance(after, dict):
            out += changed(before, after, f"{path}{key}.")
        else:
            out.append(f"{path}{key}")
    return out

"""Whether a file of weights still is what was saved or fetched: its SHA-256 against the one that was noted then.

Noted are those in a folder's sha256.json, which hlas writes beside what it saves and converts, and the names of the
files in the hub's cache: a snapshot links to a blob that is named by the SHA-256 of its content.
"""

import re
from collections.abc import Iterable
from pathlib import Path

from hlas.errors import UserError
from hlas.files import read_json, sha256_file, write_json

HASHES = "sha256.json"  # name of a file in the folder -> its SHA-256
_SHA256 = re.compile(r"[0-9a-f]{64}")  # small files' blobs have names of 40 digits: git's own hashes


def write_hashes(folder: Path, names: Iterable[str] = ()) -> dict[str, str]:
    """Note the hashes of the files of these names, and return them; without any, of all files in the folder."""
    names = names or [file.name for file in folder.iterdir() if file.is_file() and file.name != HASHES]
    hashes = {name: sha256_file(folder / name) for name in sorted(names)}
    write_json(folder / HASHES, hashes)
    return hashes


def verified(folder: Path) -> dict[str, str]:
    """The hashes that were noted, where the folder holds every one of those files unchanged; else none."""
    try:
        noted = _noted(folder)
    except UserError:
        return {}
    same = all((folder / name).is_file() and sha256_file(folder / name) == sha256 for name, sha256 in noted.items())
    return noted if same else {}


def intact(folder: Path) -> bool:
    """Whether the folder holds every file that was noted, unchanged; False where none was."""
    return bool(verified(folder))


def checked_sha256(path: Path) -> str:
    """A file's SHA-256. UserError where it is not what was noted for it; where nothing was, any will do."""
    sha256, blob = sha256_file(path), path.resolve()
    if _SHA256.fullmatch(blob.name) and blob.name != sha256:
        raise UserError(str(path), _damaged(sha256, blob.name), f"delete {blob}, and it is fetched again")
    wanted = _noted(path.parent).get(path.name, sha256)
    if wanted != sha256:
        fix = f"run the stage that made it again, or copy it again; if you changed it yourself, delete its {HASHES}"
        raise UserError(str(path), _damaged(sha256, wanted), fix)
    return sha256


def _damaged(sha256: str, wanted: str) -> str:
    return f"damaged, or exchanged: its SHA-256 is {sha256[:12]}…, and {wanted[:12]}… when it was written"


def _noted(folder: Path) -> dict[str, str]:
    if not (folder / HASHES).is_file():
        return {}
    try:
        return {str(name): str(sha256) for name, sha256 in read_json(folder / HASHES).items()}
    except (ValueError, AttributeError) as error:
        raise UserError(str(folder / HASHES), f"damaged: {error}", "copy the folder again, or delete it") from error

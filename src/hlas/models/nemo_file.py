"""Whether a path is a `.nemo` file at all, and whether its weights are whole.

The first is told by its first bytes: it is asked by plans, before NeMo is imported.
"""

import tarfile
import zipfile
from pathlib import Path

from hlas.paths import shown


def no_nemo_file(path: Path) -> tuple[str, str] | None:
    """The problem and its fix where a path is no NeMo archive; None where it may be one, or nothing is there."""
    if path.is_dir():
        return f"{shown(path)} is a folder, not a .nemo file", "name the model.nemo of a finished train stage"
    # a .nemo file that ends with its weights looks like a zip archive, too
    tar = path.is_file() and tarfile.is_tarfile(path)
    if path.suffix == ".ckpt" or (zipfile.is_zipfile(path) and not tar):
        fix = "name the model.nemo that its training left; NeMo's load_from_checkpoint and save_to make one of it"
        return f"{shown(path)} is a checkpoint, not a .nemo file: it holds a pickle and no tokenizer", fix
    if tar or not path.exists():
        return None
    return f"{shown(path)} is no tar archive, and so no .nemo file", "is it the right one, and whole?"


def check_weights(path: Path) -> None:
    """Raise ValueError where weights in a `.nemo` archive differ from their checksums, which torch does not look at."""
    with tarfile.open(path) as archive:
        for member in archive:
            file = archive.extractfile(member) if member.name.endswith(".ckpt") else None
            if file is None or not zipfile.is_zipfile(file):
                continue
            with zipfile.ZipFile(file) as weights:
                if (name := weights.testzip()) is not None:
                    raise ValueError(f"{member.name} is damaged, in its {name}")

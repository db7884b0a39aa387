"""Where the checkout lies: hlas runs from one (editable install), as recipes and specs are files of it."""

import os
from pathlib import Path

from hlas.errors import UserError


def project_root() -> Path:
    """Folder with recipes/, models/ …: HLAS_ROOT where set, else the checkout this package was installed from."""
    root = Path(os.environ.get("HLAS_ROOT") or Path(__file__).parents[2]).resolve()
    if not (root / "recipes").is_dir():
        raise UserError(str(root), "no recipes/ folder here", "run hlas from a git checkout, or set HLAS_ROOT to one")
    return root


def shown(path: Path) -> str:
    """The path as a person wants to read it: relative to the project's root or the current folder where inside."""
    for base in (project_root(), Path.cwd()):
        if path.is_relative_to(base):
            return str(path.relative_to(base))
    return str(path)

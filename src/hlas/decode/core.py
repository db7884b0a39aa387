"""The C++ core of the fast search: found, or built on first use, and its functions with their types.

The core lies beside KenLM's programs as `search/ctc_search-<hash>.so`. The hash covers the sources, the build script
and the compiler flags, so that an update builds a new one and an old checkout keeps its own.
"""

import ctypes
import fcntl
import hashlib
import logging
import os
import subprocess
import sys
from functools import cache
from pathlib import Path

from hlas.errors import UserError
from hlas.lm.ngram import kenlm_folder
from hlas.paths import project_root

LOG = logging.getLogger("hlas")
SOURCES = Path(__file__).parent / "ctc_search"


class Options(ctypes.Structure):
    """HlasSearchOptions of api.cpp."""

    _fields_ = (
        ("beam_prune_logp", ctypes.c_double),
        ("token_min_logp", ctypes.c_double),
        ("unk_score_offset", ctypes.c_double),
        ("width", ctypes.c_uint32),
        ("prune_history", ctypes.c_uint32),
        ("subwords", ctypes.c_uint32),
    )


def script() -> Path:
    """The script that builds the core."""
    return project_root() / "tools" / "build_search.sh"


def core_path() -> Path:
    """Where the core of these sources is, or will be."""
    digest = hashlib.sha256(script().read_bytes() + script().with_name("kenlm_source.sh").read_bytes())
    for source in sorted(SOURCES.glob("*.[ch]pp")):
        digest.update(source.name.encode() + source.read_bytes())
    return kenlm_folder() / "search" / f"ctc_search-{sys.platform}-{os.uname().machine}-{digest.hexdigest()[:12]}.so"


@cache
def load_core() -> ctypes.CDLL:
    """The core, built first if it is not here; UserError with the builder's last words where it cannot be."""
    path = core_path()
    if not path.is_file():
        try:
            _build_once(path)
        except OSError as error:
            raise UserError(
                str(path.parent),
                f"cannot build the fast search here: {error}",
                "set HLAS_KENLM to a writable folder, or use backend: pyctcdecode, which finds the same texts",
            ) from error
    try:
        core = ctypes.CDLL(str(path))
    except OSError as error:
        raise UserError(str(path), f"cannot be loaded: {error}", "remove it: it is built anew when needed") from error
    _declare(core)
    return core


def _build_once(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with (path.parent / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # a second process waits, and then finds it built
        if not path.is_file():
            _build(path)


def _build(path: Path) -> None:
    LOG.info("the C++ core of the beam search is not here: building it into %s (a minute at most)", path.parent)
    done = subprocess.run(
        ["bash", str(script()), str(path)],
        env=os.environ | {"HLAS_PYTHON": sys.executable},
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )
    if done.returncode:
        raise UserError(
            str(script()),
            f"cannot build the fast search:\n{done.stderr.strip()}",
            "see above, or use backend: pyctcdecode, which finds the same texts",
        )


def _declare(core: ctypes.CDLL) -> None:
    pointer, text, number, whole = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_double, ctypes.c_int64
    doubles = ctypes.POINTER(ctypes.c_double)
    times = ctypes.POINTER(ctypes.POINTER(ctypes.c_int32))
    signatures = {
        "error": (text, []),
        "open_lm": (pointer, [text, text, whole]),
        "close_lm": (None, [pointer]),
        "open": (pointer, [pointer, text, whole, text, whole, doubles, ctypes.POINTER(Options)]),
        "close": (None, [pointer]),
        "load": (whole, [pointer, pointer, whole, ctypes.c_uint32]),
        "run": (whole, [pointer, number, number, whole]),
        "result": (text, [pointer, whole, doubles, times, ctypes.POINTER(whole)]),
    }
    for name, (result, arguments) in signatures.items():
        function = getattr(core, f"hlas_search_{name}")
        function.restype, function.argtypes = result, arguments

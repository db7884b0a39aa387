"""`hlas doctor`: what is present, what is missing, and the fix of each."""

import importlib.util
import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from typing import Literal

from hlas.environment import gpu, memory_gib
from hlas.paths import project_root

LEAST_DISK_GIB = 5.0


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the examination."""

    what: str
    state: Literal["ok", "optional", "missing"]  # optional: not there, and the demo runs without
    detail: str
    fix: str = ""

    def line(self) -> str:
        """The finding as the terminal shows it."""
        mark = {"ok": "ok     ", "optional": "-      ", "missing": "MISSING"}[self.state]
        return f"{mark}  {self.what:<16} {self.detail}" + (f"\n{'':<26}fix: {self.fix}" if self.fix else "")


def examine() -> list[Finding]:
    """Look at everything a recipe can need; loads neither torch nor NeMo, reaches no network."""
    return [*_python(), *_packages(), _gpu(), *_kenlm(), _fast_search(), _mp3(), _browser(), _room(), *_whisper()]


def _python() -> Iterator[Finding]:
    version = ".".join(map(str, sys.version_info[:3]))
    good = (3, 11) <= sys.version_info[:2] <= (3, 12)
    yield Finding(
        "Python", "ok" if good else "missing", version, "" if good else "Python 3.11 or 3.12; then remove .venv"
    )


def _packages() -> Iterator[Finding]:
    for name, package, module in (
        ("torch", "torch", "torch"),
        ("NeMo", "nemo-toolkit", "nemo"),
        ("faster-whisper", "faster-whisper", "faster_whisper"),
        ("pyctcdecode", "pyctcdecode", "pyctcdecode"),
        ("kenlm (Python)", "kenlm", "kenlm"),
    ):
        if importlib.util.find_spec(module) is None:
            yield Finding(name, "missing", "not installed", "remove .venv/.hlas-pins and run ./hlas again")
        else:
            yield Finding(name, "ok", metadata.version(package))


def _gpu() -> Finding:
    found = gpu()
    if not found:
        return Finding("GPU", "optional", "none: training and Whisper run on the CPU")
    cpu_build = "+cpu" in metadata.version("torch")
    fix = "torch is a CPU build: HLAS_PIP_ARGS with a CUDA index, then remove .venv" if cpu_build else ""
    return Finding("GPU", "missing" if cpu_build else "ok", found, fix)


def _kenlm() -> Iterator[Finding]:
    from hlas.lm.ngram import find_programs

    if found := find_programs():
        yield Finding("lmplz", "ok", str(found.lmplz))
        yield Finding("build_binary", "ok", str(found.build_binary))
    else:
        yield Finding("lmplz", "missing", "not built yet", "tools/install_kenlm.sh (the lm stage runs it, too)")
    if not any(shutil.which(compiler) for compiler in (os.environ.get("CXX", "c++"), "g++", "clang++")):
        yield Finding(
            "C++ compiler",
            "missing",
            "none",
            "Debian: apt install g++; Fedora: dnf install gcc-c++; macOS: xcode-select --install",
        )


def _fast_search() -> Finding:
    from hlas.decode.core import core_path

    path = core_path()
    if path.is_file():
        return Finding("fast beam search", "ok", str(path))
    return Finding("fast beam search", "optional", "not built yet: a beam search builds it, else pyctcdecode is used")


def _browser() -> Finding:
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    detail = found or "none: the tests of the report page skip (Debian: apt install chromium)"
    return Finding("Chromium", "ok" if found else "optional", detail)


def _mp3() -> Finding:
    import soundfile

    version = soundfile.__libsndfile_version__
    if "MP3" in soundfile.available_formats():
        return Finding("mp3 decoding", "ok", f"libsndfile {version}")
    return Finding(
        "mp3 decoding", "missing", f"libsndfile {version} reads no mp3", "pip install -U soundfile (its wheel has 1.2)"
    )


def _room() -> Finding:
    free = shutil.disk_usage(project_root()).free / 2**30
    memory = memory_gib()
    detail = f"{free:.0f} GiB free, {memory or '?'} GiB of memory"
    enough = free >= LEAST_DISK_GIB
    return Finding(
        "disk",
        "ok" if enough else "missing",
        detail,
        "" if enough else f"free {LEAST_DISK_GIB:.0f} GiB, or set HLAS_RUNS elsewhere",
    )


def _whisper() -> Iterator[Finding]:
    from hlas.models.whisper_weights import weights_status

    present, detail = weights_status()
    yield Finding("Whisper base", "ok" if present else "optional", detail.removeprefix("Whisper base: "))

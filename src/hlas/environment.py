"""What a result was made with: versions, commit, machine. Recorded beside each result, never part of a fingerprint."""

import functools
import hashlib
import os
import platform
import subprocess
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from hlas.paths import project_root

LIBRARIES = (
    "hlas nemo-toolkit torch lightning numpy pyctcdecode kenlm sentencepiece jiwer sacrebleu "
    "faster-whisper ctranslate2 soundfile soxr"
)


@functools.cache
def environment() -> dict[str, Any]:
    """Versions of the libraries that shape results, the commit, and the machine."""
    versions = {}
    for name in LIBRARIES.split():
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return {
        "python": platform.python_version(),
        "versions": versions,
        "commit": commit(),
        "machine": {
            "system": f"{platform.system()} {platform.machine()}",
            "processor": processor(),
            "cores": os.cpu_count(),
            "memory_gib": memory_gib(),
            "gpu": gpu(),
        },
    }


def _output(*command: str, folder: Path | None = None) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True, cwd=folder)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()


def commit() -> str:
    """The checkout's commit, '-dirty' where files differ from it, '' without git."""
    root = project_root()
    sha = _output("git", "rev-parse", "--short=12", "HEAD", folder=root)
    return sha + "-dirty" if sha and _output("git", "status", "--porcelain", folder=root) else sha


def gpu() -> str:
    """Name and memory of the GPUs as the driver gives them, '' without one; asks no torch."""
    return _output("nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader").replace("\n", "; ")


def memory_gib() -> float | None:
    """Main memory in GiB; None where the system does not say."""
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (ValueError, OSError, AttributeError):
        return None


def processor() -> str:
    """The processor's model name."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return _output("sysctl", "-n", "machdep.cpu.brand_string") or platform.processor()


_CODE = (".py", ".html", ".css", ".js", ".cpp", ".hpp")


def code_hash(module: str) -> str:
    """Hash of the Python files, templates and sources beside and below a stage module.

    A changed one under an unchanged VERSION is worth a warning.
    """
    spec = find_spec(module)
    if spec is None or spec.origin is None:
        return ""
    digest = hashlib.sha256()
    folder = Path(spec.origin).parent
    for path in sorted(p for p in folder.rglob("*") if p.suffix in _CODE):
        digest.update(str(path.relative_to(folder)).encode() + path.read_bytes())
    return digest.hexdigest()[:12]

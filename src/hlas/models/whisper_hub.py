"""Whisper folders of the Hugging Face hub: those in its cache on this machine, those it gives, and hlas's own cache."""

import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path

LOG = logging.getLogger("hlas")
HUB_TIMEOUT_S = 5.0


def hub_snapshot(repository: str, patterns: Sequence[str], whole: Callable[[Path], bool], *, here: bool) -> Path | None:
    """The repository's folder in the hub's cache, if it is `whole`; `here`: without asking the hub.

    Raises OSError, ValueError, httpx.HTTPError where the hub does not answer.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        folder = Path(
            snapshot_download(
                repository, allow_patterns=list(patterns), etag_timeout=HUB_TIMEOUT_S, local_files_only=here
            )
        )
    except LocalEntryNotFoundError:
        if here:
            return None
        raise
    return folder if whole(folder) else None


def from_hub(
    repository: str, patterns: Sequence[str], whole: Callable[[Path], bool], problems: list[str]
) -> Path | None:
    """Fetch the repository's folder; where that cannot be (HF_HUB_OFFLINE, no network), why is added to `problems`."""
    if os.environ.get("HF_HUB_OFFLINE", "").lower() in ("1", "true", "yes", "on"):
        problems.append("the hub is not asked (HF_HUB_OFFLINE)")
        return None
    import httpx

    LOG.info("Whisper: asking the hub for %s", repository)
    try:
        folder = hub_snapshot(repository, patterns, whole, here=False)
    except (OSError, ValueError, httpx.HTTPError) as error:
        problems.append(f"the hub does not give {repository} ({(str(error).splitlines() or [''])[0]})")
        return None
    if folder is None:
        problems.append(f"{repository} lacks files of a Whisper model")
    return folder


def own_cache(name: str) -> Path:
    """A folder of hlas's cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "hlas" / name

"""The classes that a model YAML may name by `_target_`: nothing else is ever imported from a YAML."""

from typing import Any

ALLOWED = (
    "nemo.collections.asr.modules.",
    "nemo.collections.asr.models.EncDecCTCModel",
    "nemo.collections.asr.losses.",
    "hlas.models.",
)


def check_targets(data: Any, path: str = "") -> None:
    """Raise ValueError naming the first `_target_` (or `target`) that is not on the allow-list."""
    if isinstance(data, list):
        for i, item in enumerate(data):
            check_targets(item, f"{path}[{i}]")
        return
    if not isinstance(data, dict):
        return
    for key, value in data.items():
        here = f"{path}.{key}" if path else str(key)
        if key in ("_target_", "target", "cls") and not (isinstance(value, str) and value.startswith(ALLOWED)):
            raise ValueError(f"{here}: '{value}' is not allowed; allowed are classes of {', '.join(ALLOWED)}")
        check_targets(value, here)

"""What a model YAML may name: classes of NeMo's ASR collection and hlas's own modules, and no command as data."""

import re
from typing import Any

ALLOWED = re.compile(r"(nemo\.collections\.asr\.(modules|losses|models)|hlas\.models\.modules\.[a-z]\w*)\.[A-Z]\w*")
COMMAND = re.compile(r"\s*pipe:|.*://")  # webdataset runs the one and fetches the other


def check_targets(data: Any, path: str = "") -> None:
    """Raise ValueError naming the first class that is not on the allow-list, or the first source that is a command."""
    if isinstance(data, str) and COMMAND.match(data):
        raise ValueError(f"{path}: '{data}' is not a file")
    if isinstance(data, list):
        for i, item in enumerate(data):
            check_targets(item, f"{path}[{i}]")
        return
    if not isinstance(data, dict):
        return
    for key, value in data.items():
        here = f"{path}.{key}" if path else str(key)
        if key in ("_target_", "target", "cls", "classpath") and not (
            isinstance(value, str) and ALLOWED.fullmatch(value)
        ):
            raise ValueError(
                f"{here}: '{value}' is not allowed; classes of nemo.collections.asr.modules and .losses and of "
                "hlas.models.modules.<module> are"
            )
        check_targets(value, here)

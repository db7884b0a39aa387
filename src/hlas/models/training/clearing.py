"""What a finished training leaves in its stage's folder, and how much it was trained on."""

import shutil
from pathlib import Path

from hlas.manifests.rows import read_manifest


def clear_up(folder: Path) -> dict[str, float]:
    """Remove what only a training that goes on would need; utterances and hours that it was trained on."""
    for name in ("checkpoints", "kept"):
        shutil.rmtree(folder / name, ignore_errors=True)
    durations_s = [row.duration for row in read_manifest(folder / "train.jsonl")]
    return {"train_utterances": len(durations_s), "train_hours": round(sum(durations_s) / 3600, 4)}

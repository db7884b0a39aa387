"""How a checkpoint's file is written, so that none that has its name is cut off."""

import os
from pathlib import Path
from typing import Any

from lightning.pytorch.plugins import TorchCheckpointIO


class WholeFiles(TorchCheckpointIO):  # type: ignore[misc]  # lightning is untyped here
    """Writes beside the file and gives it its name when all is on the disk.

    Lightning's own writes into the system's temporary folder and moves it: a copy where that is another disk.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write it; a disk that is full leaves what was there before."""
        import torch

        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(target.name + ".part")
        try:
            with part.open("wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)

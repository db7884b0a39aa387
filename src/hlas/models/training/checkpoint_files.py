"""How a checkpoint's file is written, so that none that has its name is cut off."""

from pathlib import Path
from typing import Any

from lightning.pytorch.plugins import TorchCheckpointIO

from hlas.files import atomic_bytes


class WholeFiles(TorchCheckpointIO):  # type: ignore[misc]  # lightning is untyped here
    """Writes beside the file and gives it its name when all is on the disk.

    Lightning's own writes into the system's temporary folder and moves it: a copy where that is another disk.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write it; a disk that is full leaves what was there before."""
        import torch

        with atomic_bytes(Path(path)) as file:
            torch.save(checkpoint, file)

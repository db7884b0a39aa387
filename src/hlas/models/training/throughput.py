"""Lightning callback: how fast an epoch trained, how long the loop waited for data, how much GPU memory it took.

The wait of a step is the time from the end of one batch to the start of the next: reading, augmenting and collating
where no worker had the batch ready, and the copy to the device. A GPU works on while the loop waits, so that the wait
is an upper bound of what the data costs it. Nothing here makes the loop wait for the GPU but the end of an epoch.
"""

import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lightning.pytorch.callbacks import Callback


class Throughput(Callback):  # type: ignore[misc]  # lightning is untyped here
    """Clock and counters of the epoch that runs; validation is left out."""

    def __init__(self) -> None:
        self._cuda = False
        self._utterances = self._batches = 0
        self._audio: Any = 0.0  # seconds; a tensor on the device, as reading it would wait for the GPU
        self._waits_s: list[float] = []
        self._train_s = 0.0
        self._since = self._ready = 0.0  # monotonic: when training began or went on, when the last batch was done

    def on_train_epoch_start(self, trainer: Any, model: Any) -> None:
        """Start anew."""
        import torch

        self._cuda = trainer.strategy.root_device.type == "cuda"
        if self._cuda:
            torch.cuda.reset_peak_memory_stats()
        self._utterances, self._batches, self._audio, self._waits_s, self._train_s = 0, 0, 0.0, [], 0.0
        self._go_on()

    def on_train_batch_start(self, trainer: Any, model: Any, batch: Any, index: int) -> None:
        """The batch is there."""
        self._waits_s.append(time.monotonic() - self._ready)

    def on_train_batch_end(self, trainer: Any, model: Any, outputs: Any, batch: Any, index: int) -> None:
        """Count the batch: audio, its lengths, …; kept outputs of an encoder have no length in seconds."""
        self._batches += 1
        self._utterances += len(batch[1])
        if not getattr(batch, "has_processed_signal", False):
            self._audio = self._audio + batch[1].sum() / model.cfg.sample_rate
        self._ready = time.monotonic()

    def on_validation_start(self, trainer: Any, model: Any) -> None:
        """Stop the clock."""
        self._pause()

    def on_validation_end(self, trainer: Any, model: Any) -> None:
        """Let it run again."""
        self._go_on()

    def _go_on(self) -> None:
        self._since = self._ready = time.monotonic()

    def _pause(self) -> None:
        import torch

        if self._ready == self._since:
            return  # no batch since the last pause
        if self._cuda:
            torch.cuda.synchronize()  # the work that is still under way belongs to the training
        self._train_s += time.monotonic() - self._since

    def take(self, trainer: Any) -> dict[str, Any]:
        """What the epoch's line says, over all processes; each of them has to ask, once an epoch, at its end."""
        import torch

        self._pause()

        def over_all(value: float, how: str) -> float:
            tensor = torch.tensor(float(value), dtype=torch.float32, device=trainer.strategy.root_device)
            return float(trainer.strategy.reduce(tensor, reduce_op=how))

        utterances, audio_s = over_all(self._utterances, "sum"), over_all(float(self._audio), "sum")
        train_s = max(over_all(self._train_s, "max"), 1e-9)
        waits_s = self._waits_s or [0.0]
        peak_gib = torch.cuda.max_memory_allocated() / 2**30 if self._cuda else 0.0
        return {
            "train_seconds": round(train_s, 6),
            "batches": self._batches,
            "utterances": int(utterances),
            "samples_per_s": round(utterances / train_s, 3),
            "audio_s_per_s": round(audio_s / train_s, 3) if audio_s else None,
            "wait_s_per_step": round(over_all(statistics.fmean(waits_s), "mean"), 5),
            "wait_s_max": round(over_all(max(waits_s), "max"), 5),
            "gpu_memory_gib": round(over_all(peak_gib, "max"), 3) if self._cuda else None,
        }


@dataclass(frozen=True, slots=True)
class Speed:
    """A whole training's throughput."""

    samples_per_s: float | None  # utterances trained on a second, median over the epochs
    wait_share: float | None  # of the training's time, spent waiting for data
    peak_gpu_gib: float | None


def speed(rows: Sequence[Mapping[str, Any]]) -> Speed:
    """Sum up the lines of curve.jsonl; None where none of them says it, as in those of older versions."""
    timed = [row for row in rows if row.get("train_seconds")]
    peaks = [row["gpu_memory_gib"] for row in timed if row.get("gpu_memory_gib") is not None]
    waited_s = sum(row["batches"] * row["wait_s_per_step"] for row in timed)
    return Speed(
        statistics.median(row["samples_per_s"] for row in timed) if timed else None,
        round(waited_s / sum(row["train_seconds"] for row in timed), 4) if timed else None,
        max(peaks, default=None),
    )


def scalars(row: Mapping[str, Any]) -> dict[str, float]:
    """What the loggers draw of an epoch's line: samples/s, the share and time of waiting, the GPU's memory if any."""
    found = {name: row[name] for name in ("samples_per_s", "wait_s_per_step", "gpu_memory_gib")}
    found["wait_share"] = speed([row]).wait_share
    return {name: value for name, value in found.items() if value is not None}


def in_short(row: Mapping[str, Any]) -> str:
    """The same for the log, in a few words."""
    told = scalars(row)
    text = f"{told['samples_per_s']:.1f} samples/s, {told.get('wait_share', 0):.1%} of it waiting for data"
    return text + (f", {told['gpu_memory_gib']:.1f} GiB of the GPU" if "gpu_memory_gib" in told else "")

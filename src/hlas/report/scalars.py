"""A report's numbers as TensorBoard scalars: one run a system, so that they stand beside the training curves.

Written with TensorBoard's own record writer, without torch. The same numbers make the same bytes.
"""

from collections.abc import Sequence
from pathlib import Path

from hlas.report.evaluate import SplitResult

TAGS = ("wer", "cer", "mer", "wil", "wip", "bleu", "chrf", "sentence_error_rate", "raw_wer", "rtfx", "oracle_wer")
_FILE = "events.out.tfevents.0.report"  # TensorBoard reads files with 'tfevents' in their names


def write_scalars(folder: Path, results: Sequence[SplitResult]) -> None:
    """Write FOLDER/<system>/ with the tags '<split>/wer', '<split>/wer_low', … for each system and split."""
    runs: dict[str, dict[str, float]] = {}
    for result in results:
        for item in result.systems:
            data = item.to_json(result.units)
            low, high = item.wer_ci95
            values = {tag: data.get(tag) for tag in TAGS} | {"wer_low": low, "wer_high": high}
            run = runs.setdefault(item.name, {})
            run |= {f"{result.split}/{tag}": float(value) for tag, value in values.items() if value is not None}
    for name, run in runs.items():
        _write_run(folder / name, run)


def _write_run(folder: Path, values: dict[str, float]) -> None:
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.summary.writer.record_writer import RecordWriter

    folder.mkdir(parents=True, exist_ok=True)
    part = folder / f".{_FILE}.part"
    with part.open("wb") as file:
        writer = RecordWriter(file)
        writer.write(Event(file_version="brain.Event:2").SerializeToString())
        for tag, value in values.items():
            summary = Summary(value=[Summary.Value(tag=tag, simple_value=value)])
            writer.write(Event(step=0, summary=summary).SerializeToString())
    part.replace(folder / _FILE)

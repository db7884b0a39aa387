"""The split that weights are tuned on is none that will be scored: checked by its name and by what is in it."""

from collections.abc import Mapping
from logging import Logger

from hlas.errors import UserError, did_you_mean
from hlas.manifests.rows import Row


def refuse_test(tune_on: str | None) -> None:
    """Raise ValueError for a split that is a test by its name."""
    if tune_on is not None and tune_on.startswith("test"):
        raise ValueError("tune_on names a test split, whose numbers would then mean nothing: tune on dev")


def check_tuning_split(stage: str, tune_on: str, splits: Mapping[str, list[Row]], log: Logger) -> None:
    """Raise UserError where the split is missing or shares utterances with another; warn of shared sentences."""
    if tune_on not in splits:
        problem = f"no split '{tune_on}' in the log-probs" if splits else "no splits"
        raise UserError(f"{stage}.tune_on", problem, did_you_mean(tune_on, splits))
    rows = splits[tune_on]
    audio = {(row.audio_filepath, row.offset) for row in rows}
    clips = {(row.utterance, row.offset, row.text) for row in rows}
    sentences = {row.text for row in rows if row.text}
    for split, others in splits.items():
        if split == tune_on:
            continue
        shared = [
            row
            for row in others
            if (row.audio_filepath, row.offset) in audio or (row.utterance, row.offset, row.text) in clips
        ]
        if shared:
            raise UserError(
                f"{stage}.tune_on: {tune_on}",
                f"{len(shared)} of its utterances are in '{split}' too, e.g. {shared[0].utterance}: "
                f"tuned on them, a score of '{split}' would mean nothing",
                "take them out of one of the two manifests, or tune on another split",
            )
        if repeated := sum(row.text in sentences for row in others):
            message = "%s: %d of the %d sentences of %s are said in %s too, which the weights are tuned on"
            log.warning(message, stage, repeated, len(others), split, tune_on)

"""Stage `logprobs`: a model's log-probs of each split, computed once and kept for every search."""

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from hlas.errors import UserError
from hlas.files import write_json
from hlas.manifests.rows import Row, read_manifest, rebase
from hlas.progress import track
from hlas.stage import Stage, Summary

if TYPE_CHECKING:
    from hlas.decode.logprobs import Vocabulary

MOST_FOREIGN = 0.5  # share of reference characters that no label spells from which on the model is a wrong one


@dataclass(frozen=True)
class Params:
    """Keys of the stage itself."""

    dtype: Literal["float16", "float32"] = "float16"
    batch_s: float = 160.0  # seconds of audio in a batch, padding counted
    device: Literal["auto", "cpu", "cuda"] = "auto"


def run(params: Params, stage: Stage) -> Summary:
    """Write the files that hlas.decode.logprobs describes, one split an input."""
    from hlas.decode.logprobs import log_probs_writer, write_vocabulary
    from hlas.manifests.audio.files import load_utterance
    from hlas.models.nemo_ctc import CtcModel, batches

    splits = stage.splits("data")
    model = CtcModel.load(stage.one("acoustic").path, params.device)
    write_vocabulary(stage.folder, model.vocabulary)
    timing = {}
    for split, path in splits.items():
        rows = read_manifest(path)
        foreign = foreign_share(rows, model.vocabulary)
        if foreign > MOST_FOREIGN:
            raise UserError(
                f"{stage.name}.acoustic",
                f"the model's labels spell only {100 * (1 - foreign):.0f} % of the characters of {split}",
                "it was trained for another alphabet: train one for this language, or check the recipe's language",
            )
        if foreign > 0:
            stage.log.warning("%s: %.2f %% of the characters of %s have no label", stage.name, 100 * foreign, split)
        folder = path.parent
        started = time.monotonic()
        with log_probs_writer(stage.folder, split, len(model.vocabulary.tokens) + 1, params.dtype) as append:
            grouped = list(batches([row.duration for row in rows], params.batch_s))
            for group in track(grouped, f"log-probs {split}", len(grouped), "batches"):
                audio = [load_utterance(rows[i], folder, model.sample_rate_hz) for i in group]
                for i, frames in zip(group, model.log_probs(audio, params.batch_s), strict=True):
                    append(rebase(rows[i], folder, stage.folder), frames, position=i)
        audio_s = sum(row.duration for row in rows)
        timing[split] = {"audio_s": round(audio_s, 3), "seconds": round(time.monotonic() - started, 3)}
        stage.log.info(
            "%s: %s %d utterances, %.0f s of audio in %.1f s",
            stage.name,
            split,
            len(rows),
            audio_s,
            timing[split]["seconds"],
        )
    write_json(stage.folder / "timing.json", timing)
    return {"splits": list(splits), "device": model.device, "labels": len(model.vocabulary.tokens), "timing": timing}


def foreign_share(rows: list[Row], vocabulary: "Vocabulary") -> float:
    """Share of the references' characters that no label holds."""
    known = set("".join(vocabulary.tokens)) | {" "}
    text = "".join(row.text for row in rows)
    return sum(c not in known for c in text) / len(text) if text else 0.0

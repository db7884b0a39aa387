"""Stage `transcribe`: a pretrained recogniser hears the clips of a manifest itself; its hypotheses go to the report."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from hlas.decode.outputs import write_hypotheses
from hlas.files import write_json
from hlas.manifests.rows import Hypothesis, Row, read_manifest, rebase
from hlas.models.whisper_asr import Heard, UtteranceTranscriber, Whisper, WhisperOptions
from hlas.models.whisper_weights import whisper_weights
from hlas.parallel import chunked, map_chunks
from hlas.paths import project_root
from hlas.progress import track
from hlas.stage import Stage, Summary

GROUP = {"cpu": 16, "cuda": 256}  # clips to a freshly loaded model: the texts depend on it, not on the processes
CAVEAT = "pretrained on data that is not public: the clips scored here may be among it"


@dataclass(frozen=True)
class Params(WhisperOptions):
    """Keys of a Whisper spec."""

    engine: Literal["faster-whisper"] = "faster-whisper"
    model: str = "base"  # tiny, base, small, medium, large-v1 … -v3, turbo, or a hub repository 'owner/name'
    weights: str = ""  # a CTranslate2 folder instead of the model's usual places; relative to the project's root
    language: str = ""  # code that Whisper is told; '' = the recipe language's own; 'auto' = Whisper guesses
    threads: int = 1  # of each process on a CPU; with more there are fewer processes, and so less memory is needed

    def __post_init__(self) -> None:
        """Check the ranges."""
        super().__post_init__()
        if self.threads < 1:
            raise ValueError("threads is at least 1")


def run(params: Params, stage: Stage) -> Summary:
    """Write <split>.jsonl and <split>.csv for each input, and timing.json."""
    inputs = stage.splits("data")
    manifests = {split: read_manifest(path) for split, path in inputs.items()}
    language = stage.need_language()
    code = "" if params.language == "auto" else params.language or language.whisper_code or language.code
    weights = whisper_weights(params.model, project_root() / params.weights if params.weights else None)
    # seen to work here, where its errors and the choice of the device are the stage's own
    whisper = Whisper(weights.folder, params, code, params.threads)
    options = replace(params, device=whisper.device)
    processes = max(1, stage.workers // params.threads) if whisper.device == "cpu" else 1
    device, compute_type = whisper.device, whisper.compute_type
    del whisper
    stage.log.info(
        "%s: Whisper %s hears %s as '%s', %s, %s, %d processes",
        *(stage.name, params.model, language.name, code or "auto", device, compute_type, processes),
    )
    timing, load_s = {}, 0.0
    for split, path in inputs.items():
        rows = manifests[split]
        transcriber = UtteranceTranscriber(weights.folder, options, code, params.threads, path.parent)
        groups = list(chunked(rows, GROUP[device]))
        found = map_chunks(transcriber, groups, workers=processes, chunk_size=1)
        tracked = track(found, f"transcribe {split}, {GROUP[device]} clips each", len(groups), "groups")
        heard = [one for group in tracked for one in group]
        write_hypotheses(stage.folder, split, _hypotheses(rows, heard, stage, path.parent))
        busy = max(1, min(processes, len(groups)))
        timing[split] = {
            "audio_s": round(sum(row.duration for row in rows), 3),
            "seconds": round(sum(h.seconds for h in heard) / busy, 3),
        }
        load_s += sum(h.load_s for h in heard) / busy
    write_json(stage.folder / "timing.json", timing)
    return {
        "counts": {split: len(rows) for split, rows in manifests.items()},
        "model": f"Whisper {params.model}",
        "pretrained": True,
        "caveat": CAVEAT,
        "weights": weights.source,
        "weights_sha256": weights.sha256,
        "language": code or "auto",
        "device": device,
        "compute_type": compute_type,
        "processes": processes,
        "load_s": round(load_s, 3),
    }


def _hypotheses(rows: Sequence[Row], heard: Sequence[Heard], stage: Stage, folder: Path) -> list[Hypothesis]:
    """The rows with what was heard, their audio paths relative to the stage's folder."""
    normalise = stage.need_language().normalise
    return [
        Hypothesis(rebase(row, folder, stage.folder), normalise(h.transcript.text), h.transcript.text)
        for row, h in zip(rows, heard, strict=True)
    ]

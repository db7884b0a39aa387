"""Stage `transcribe`: Whisper hears the clips of a manifest itself, as it is or fine-tuned; the report compares it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from hlas.decode.outputs import write_hypotheses
from hlas.errors import did_you_mean
from hlas.files import write_json
from hlas.manifests.rows import Hypothesis, Row, read_manifest, rebase
from hlas.models.transcripts import DOUBTS, count_doubts
from hlas.models.whisper_asr import Heard, UtteranceTranscriber, Whisper
from hlas.models.whisper_folders import Found, engine_folder
from hlas.models.whisper_languages import CODES, told_language, unknown_code
from hlas.models.whisper_options import WhisperOptions
from hlas.models.whisper_sizes import SIZES
from hlas.models.whisper_weights import HUB_REPOSITORIES
from hlas.parallel import chunked, map_chunks
from hlas.progress import track
from hlas.stage import Stage, Summary
from hlas.store import finished

GROUP = {"cpu": 32, "cuda": 256}  # clips to a freshly loaded model: the texts depend on it, not on the processes
CAVEAT = "pretrained on data that is not public: the clips scored here may be among it"


@dataclass(frozen=True)
class Params(WhisperOptions):
    """Keys of a Whisper spec."""

    padding_s: float | Literal["auto"] | None = "auto"
    model: str = "base"  # tiny, base, small, medium, large-v1 … -v3, large-v3-turbo, or a hub repository 'owner/name'
    language: str = ""  # code that Whisper is told; '' = the recipe language's own; 'auto' = Whisper guesses
    threads: int = 1  # of each process on a CPU; with more there are fewer processes, and so less memory is needed

    def __post_init__(self) -> None:
        """Check the ranges and names."""
        super().__post_init__()
        if self.threads < 1:
            raise ValueError("threads is at least 1")
        known = {*SIZES, *HUB_REPOSITORIES}
        if "/" not in self.model and self.model not in known:
            raise ValueError(f"no Whisper '{self.model}'; {did_you_mean(self.model, known)}")
        if self.engine == "transformers" and "/" in self.model:
            raise ValueError("the transformers engine takes a size; a repository's folder goes under 'weights'")
        if self.language not in ("", "auto", *CODES):
            raise ValueError(unknown_code(self.language))


def run(params: Params, stage: Stage) -> Summary:
    """Write <split>.jsonl and <split>.csv for each input, and timing.json."""
    inputs = stage.splits("data")
    manifests = {split: read_manifest(path) for split, path in inputs.items()}
    code = told_language(params.language, stage.need_language(), stage.name)
    found = _folder(params, stage)
    params = replace(params, padding_s=_padding(params, stage))
    # seen to work here, where its errors and the choice of the device are the stage's own
    whisper = Whisper(found.folder, params, code, params.threads)
    options = replace(params, device=whisper.device)
    device, compute_type = whisper.device, whisper.compute_type
    processes = max(1, stage.workers // params.threads) if device == "cpu" else 1
    del whisper
    stage.log.info(
        "%s: Whisper %s (%s) by %s hears %s as '%s', %s, %s, %d processes",
        *(stage.name, found.size, found.source, params.engine, stage.need_language().name, code or "auto"),
        *(device, compute_type, processes),
    )
    timing, doubts, load_s = {}, {}, 0.0
    for split, path in inputs.items():
        rows = manifests[split]
        transcriber = UtteranceTranscriber(found.folder, options, code, params.threads, path.parent)
        heard, busy = _heard(rows, transcriber, split, processes, GROUP[device])
        write_hypotheses(stage.folder, split, _hypotheses(rows, heard, stage, path.parent))
        timing[split] = {
            "audio_s": round(sum(row.duration for row in rows), 3),
            "seconds": round(sum(h.seconds for h in heard) / busy, 3),
        }
        load_s += sum(h.load_s for h in heard) / busy
        doubts[split] = _doubts(stage, split, heard)
    write_json(stage.folder / "timing.json", timing)
    return {
        "counts": {split: len(rows) for split, rows in manifests.items()},
        "model": f"Whisper of {given.label}" if (given := stage.optional("weights")) else f"Whisper {params.model}",
        "pretrained": True,
        "caveat": CAVEAT,
        "engine": params.engine,
        "weights": found.source,
        "weights_sha256": found.sha256,
        "language": code or "auto",
        "padding_s": params.padding_s,
        "doubts": doubts,
        "device": device,
        "compute_type": compute_type,
        "processes": processes,
        "load_s": round(load_s, 3),
    }


def _folder(params: Params, stage: Stage) -> Found:
    """The weights: those of another stage or of a path, else the model's own."""
    given = stage.optional("weights")
    if given is None:
        return engine_folder(params.model, None, params)
    return engine_folder(params.model, given.path, params, f"stage {given.label}" if given.stage else "")


def _padding(params: Params, stage: Stage) -> float | None:
    """Silence after a clip, s: as asked for; else short, or as weights were taught that are not Whisper's own."""
    given = stage.optional("weights")
    if params.padding_s != "auto" or given is None:
        return params.silence_s
    taught = finished(given.path.parent, "finetune")
    return taught.params["model"]["padding_s"] if taught else None  # of others' training nothing is known


def _heard(
    rows: Sequence[Row], transcriber: UtteranceTranscriber, split: str, processes: int, group: int
) -> tuple[list[Heard], int]:
    """What was heard in each row, and the number of processes that had work.

    Groups are of clips of like length, the longest first: so windows are alike, and no process ends long after the
    others.
    """
    order = sorted(range(len(rows)), key=lambda i: (-rows[i].duration, i))
    groups = list(chunked([rows[i] for i in order], group))
    found = map_chunks(transcriber, groups, workers=processes, chunk_size=1)
    tracked = track(found, f"transcribe {split}, {group} clips each", len(groups), "groups")
    by_row = dict(zip(order, (one for some in tracked for one in some), strict=True))
    return [by_row[i] for i in range(len(rows))], max(1, min(processes, len(groups)))


def _hypotheses(rows: Sequence[Row], heard: Sequence[Heard], stage: Stage, folder: Path) -> list[Hypothesis]:
    """The rows with what was heard, their audio paths relative to the stage's folder."""
    normalise = stage.need_language().normalise
    return [
        Hypothesis(
            rebase(row, folder, stage.folder),
            normalise(h.transcript.text),
            h.transcript.text,
            doubts=h.transcript.doubts,
        )
        for row, h in zip(rows, heard, strict=True)
    ]


def _doubts(stage: Stage, split: str, heard: Iterable[Heard]) -> Mapping[str, int]:
    """Number of clips by what speaks against their text; told in the log, as silence and loops are part of the WER."""
    found = count_doubts(h.transcript.doubts for h in heard)
    for name, number in found.items():
        stage.log.warning("%s: %s: %d clips: %s", stage.name, split, number, DOUBTS[name])
    return found

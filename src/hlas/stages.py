"""THE table: every stage kind, what it reads, what it writes, and the version of its code.

Read top to bottom it is the data flow. `module` holds `Params` (a frozen dataclass) and `run(params, stage)`.
Raise VERSION when a stage's code changes what it writes: its results, and those that depend on them, are made anew.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

LM_FILES = {"arpa": "lm.arpa", "binary": "lm.bin", "unigrams": "unigrams.txt"}
MANIFEST_SPLITS = {"train": "train.jsonl", "dev": "dev.jsonl", "test": "test.jsonl"}


@dataclass(frozen=True, slots=True)
class Reads:
    """What one input of a stage may be."""

    edges: tuple[str, ...] = ()  # 'kind' (its folder), 'kind.output', or 'kind.*' (any one of its outputs)
    path: str = ""  # what an outside path is, for messages; '' where only an edge will do
    many: bool = False  # a list is allowed
    required: bool = True

    def accepts(self, kind: str, output: str) -> bool:
        """Whether an edge to that output ('' = none is named) of a stage of that kind will do."""
        meant = self.output_meant(kind, output)
        return f"{kind}.{meant}".rstrip(".") in self.edges or (bool(meant) and f"{kind}.*" in self.edges)

    def output_meant(self, kind: str, output: str) -> str:
        """The output that an edge to a stage of that kind stands for; '' = the stage's folder.

        Where only one output will do, it need not be named.
        """
        named = [edge.partition(".")[2] for edge in self.edges if edge.partition(".")[0] == kind]
        return output or next((name for name in named if name != "*"), "")


@dataclass(frozen=True, slots=True)
class Kind:
    """One row of the table."""

    module: str
    version: int
    reads: Mapping[str, Reads] = field(default_factory=dict)
    writes: Mapping[str, str] = field(default_factory=dict)  # output -> file in the stage's folder
    specs: tuple[str, ...] = (
        "spec",
    )  # keys that name a YAML; the first that is given is overlaid by the stage's own keys
    needs_spec: bool = True
    uses_language: bool = False
    resumes: bool = False  # a killed run leaves what the next one can use
    distributed: bool = False  # several processes, on one machine or more, can make it together
    names_matter: bool = False  # the names of the stages it reads show in what it writes
    publishes: tuple[str, ...] = ()  # files linked at the top of the recipe's folder


KINDS: dict[str, Kind] = {
    "corpus": Kind(
        "hlas.corpus.stage",
        version=1,
        reads={"text": Reads((), "text file, one sentence a line", required=False)},
        writes={"release": "release", "text": "lm_text.txt"},
        needs_spec=False,
    ),
    "manifests": Kind(
        "hlas.manifests.stage",
        version=2,
        reads={"release": Reads(("corpus.release",), "corpus")},
        writes=MANIFEST_SPLITS,
        uses_language=True,
        resumes=True,
    ),
    "augment": Kind(
        "hlas.augment.stage",
        version=1,
        reads={
            "speech": Reads(("manifests.train",), "manifest", required=False),  # babble of dev would be trained on
            "noise": Reads((), "folder of noise recordings", required=False),
            "rooms": Reads((), "folder of room impulse responses", required=False),
        },
        writes={"noise": "noise.jsonl", "rooms": "rooms.jsonl"},
    ),
    "noisy": Kind(
        "hlas.augment.noisy_stage",
        version=1,
        reads={
            "data": Reads(("manifests.*",), "manifest", many=True),
            "noise": Reads(("augment.noise",), "noise manifest", required=False),
            "rooms": Reads(("augment.rooms",), "manifest of impulse responses", required=False),
        },
        writes=MANIFEST_SPLITS,
        needs_spec=False,
    ),
    "tokenizer": Kind(
        "hlas.tokenizers.stage",
        version=1,
        reads={
            "text": Reads(("manifests.*",), "manifest", many=True, required=False),
            "model": Reads(("train.model",), ".nemo file", required=False),  # whose labels are taken
        },
    ),
    "train": Kind(
        "hlas.models.train_stage",
        version=2,
        reads={
            "train": Reads(("manifests.*",), "manifest"),
            "dev": Reads(("manifests.*",), "manifest"),
            "tokenizer": Reads(("tokenizer",), ""),
            "init": Reads(("train.model",), ".nemo file", required=False),
            "noise": Reads(("augment.noise",), "noise manifest", required=False),
            "rooms": Reads(("augment.rooms",), "manifest of impulse responses", required=False),
        },
        writes={"model": "model.nemo"},
        resumes=True,
        distributed=True,
    ),
    "lm": Kind(
        "hlas.lm.stage",
        version=2,
        reads={
            "text": Reads(("manifests.*", "corpus.text"), "text file, one sentence a line", many=True),
            "exclude": Reads(("manifests.*",), "manifest", many=True, required=False),
            "tokenizer": Reads(("tokenizer",), "", required=False),
        },
        writes=LM_FILES,
        uses_language=True,
    ),
    "lm_mix": Kind(
        "hlas.lm.mix_stage",
        version=1,
        reads={
            "lms": Reads(("lm",), "LM folder", many=True),
            "dev": Reads(("manifests.dev",), "manifest"),
        },
        writes=LM_FILES,
        needs_spec=False,
    ),
    "logprobs": Kind(
        "hlas.models.logprobs_stage",
        version=1,
        reads={
            "acoustic": Reads(("train.model",), ".nemo file"),
            "data": Reads(("manifests.*", "noisy.*"), "manifest", many=True),
        },
        needs_spec=False,
    ),
    "decode": Kind(
        "hlas.decode.stage",
        version=2,
        reads={
            "logprobs": Reads(("logprobs",), "log-probs folder"),
            "lm": Reads(("lm", "lm_mix"), "LM folder", required=False),
        },
        specs=("search",),
        needs_spec=False,
        uses_language=True,
    ),
    "rescore": Kind(
        "hlas.decode.rescore_stage",
        version=1,
        reads={
            "nbest": Reads(("decode",), "folder of hypotheses with n-best lists"),
            "lm": Reads(("lm", "lm_mix"), "LM folder"),
        },
        needs_spec=False,
        uses_language=True,
    ),
    "finetune": Kind(
        "hlas.models.finetune_stage",
        version=1,
        reads={
            "train": Reads(("manifests.*",), "manifest"),
            "dev": Reads(("manifests.*",), "manifest"),
            "init": Reads(("finetune.model",), "folder of a Whisper", required=False),
            "noise": Reads(("augment.noise",), "noise manifest", required=False),
            "rooms": Reads(("augment.rooms",), "manifest of impulse responses", required=False),
        },
        writes={"model": "model"},
        uses_language=True,
        resumes=True,
    ),
    "transcribe": Kind(
        "hlas.models.transcribe_stage",
        version=2,
        reads={
            "data": Reads(("manifests.*", "noisy.*"), "manifest", many=True),
            "weights": Reads(("finetune.model",), "folder of a Whisper", required=False),
        },
        uses_language=True,
    ),
    "report": Kind(
        "hlas.report.stage",
        version=4,
        reads={
            "systems": Reads(("decode", "rescore", "transcribe"), "", many=True),
            "baseline": Reads(("decode", "rescore", "transcribe"), "", required=False),
            "curve": Reads(("train", "finetune"), "", many=True, required=False),
        },
        needs_spec=False,
        uses_language=True,
        names_matter=True,
        publishes=("report.html", "report.md", "metrics.json", "hypotheses", "tensorboard"),
    ),
}

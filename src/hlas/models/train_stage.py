"""Stage `train`: a NeMo CTC model from a YAML in models/, best checkpoint by dev WER -> model.nemo.

In the stage's folder: `model.nemo`, `curve.jsonl` (a line an epoch), `samples.jsonl` (what some dev utterances were
heard as, epoch by epoch), `train.jsonl` and `dev.jsonl` (what it was trained on), `rejects.tsv` (what cannot be),
`tensorboard/`; while it runs also `checkpoints/`, from whose last a killed run goes on, and `kept/`.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from hlas.errors import UserError
from hlas.inputs import Inputs, Outside
from hlas.models.augmentor import PERTURBATIONS, check_augmentor
from hlas.models.freezing import Freeze, check_freeze, written
from hlas.models.nemo_file import no_nemo_file
from hlas.models.targets import check_targets
from hlas.models.training.clearing import clear_up
from hlas.models.training.known_keys import check_keys, check_parts, check_sets
from hlas.models.training.optim_keys import check_groups, check_optim
from hlas.models.training.options import Experiment, KeepOutputs, check_masks, check_seed
from hlas.models.training.workers import check_processes, team
from hlas.stage import Stage, Summary
from hlas.tokenizers.stage import read_labels

WHISPER_ENCODER = "hlas.models.modules.whisper_encoder.WhisperEncoder"  # comes with weights of its own


@dataclass(frozen=True)
class Params:
    """models/*.yaml in NeMo's own form: `model` and `trainer` are handed to NeMo and Lightning."""

    model: dict[str, Any]
    trainer: dict[str, Any]

    exp_manager: Experiment = field(default_factory=Experiment)
    name: str = ""  # NeMo's own key: the model's name
    precision: Literal["auto", "32", "bf16-mixed", "16-mixed"] = "auto"  # auto: mixed where the GPU has it
    seed: int = 1
    pretrained: str = ""  # a NeMo model name to start from, in place of the input `init`
    keep_decoder_rows: bool = False  # started with other labels: rows of labels that both know are kept
    freeze: Freeze = "none"
    freeze_batch_norm: bool = False  # batch normalisation keeps the statistics of the model that it started from
    unfreeze: dict[int, Freeze] = field(default_factory=dict)  # epoch -> what is frozen from then on
    keep_outputs: KeepOutputs | None = None  # of the frozen part of the encoder, computed once

    def __post_init__(self) -> None:
        """Refuse what could not be trained, or would not be what the YAML says, before anything is built."""
        check_targets({"model": self.model, "trainer": self.trainer})
        for section in ("preprocessor", "encoder", "decoder", "optim", "train_ds"):
            if not isinstance(self.model.get(section), dict):
                raise ValueError(f"model.{section} is missing")
        check_parts(self.model)
        check_keys(self.model, self.trainer)
        check_seed(self.seed)
        check_augmentor(self.model["train_ds"])
        check_optim(self.model["optim"])
        check_groups(self.model.get("optim_param_groups") or {})
        check_processes(self.trainer)
        check_freeze(self.freeze, self.unfreeze)
        if self.keep_outputs and (self.unfreeze or self.freeze in ("none", "feature_encoder")):
            raise ValueError("keep_outputs keeps what a frozen encoder gives: set freeze: encoder, and no unfreeze")
        if self.keep_outputs:
            check_masks(self.model.get("spec_augment"))

    @property
    def brings_weights(self) -> bool:
        """Whether the encoder is one that comes with weights."""
        encoder = self.model["encoder"]
        return encoder.get("_target_") == WHISPER_ENCODER and bool(encoder.get("pretrained", True))

    def check_inputs(self, inputs: Inputs) -> Iterator[UserError]:
        """What the parameters and the inputs are only together: two starts, or none where one is needed; no noise."""
        yield from check_sets(self.model["train_ds"], inputs)
        init, either = inputs.get("init", ()), "name a model to start from: init, or pretrained"
        if init and self.pretrained:
            problem = f"starts from two models: init {init[0]} and pretrained {self.pretrained}"
            yield UserError("pretrained", problem, "leave one of them out")
        for item in init:
            if isinstance(item, Outside) and item.path and (found := no_nemo_file(item.path)):
                yield UserError("init", *found)
        if init or self.pretrained:
            return
        if self.keep_decoder_rows:
            yield UserError("keep_decoder_rows", "there is no decoder to keep rows of", either)
        if self.brings_weights:
            return
        if self.freeze != "none":
            yield UserError("freeze", f"{written(self.freeze)} would keep random weights", either)
        if self.freeze_batch_norm:
            yield UserError("freeze_batch_norm", "would keep statistics of nothing", either)


def run(params: Params, stage: Stage) -> Summary:
    """Train, or go on training, and save the best model."""
    from hlas.models.training.fit import fit
    from hlas.models.training.job import Fit, Start

    train, dev = stage.one("train").path, stage.one("dev").path
    labels = read_labels(stage.one("tokenizer").path)
    init = stage.optional("init")
    if init:
        stage.log.info("%s: init is %s", stage.name, init.label)
    job = Fit(
        model=params.model,
        trainer=params.trainer,
        precision=params.precision,
        seed=params.seed,
        train=train,
        dev=dev,
        labels=labels,
        folder=stage.folder,
        experiment=params.exp_manager,
        start=Start(init.path if init else None, params.pretrained, params.keep_decoder_rows),
        freeze=params.freeze,
        freeze_batch_norm=params.freeze_batch_norm,
        unfreeze=params.unfreeze,
        keep_outputs=params.keep_outputs,
        sets={name: item.path for name in PERTURBATIONS if (item := stage.optional(name))},
    )
    with team(params.trainer, params, stage) as processes:
        result = fit(job, processes, stage.log)
    if result is None:  # another process saves the model and says what came of it
        return {}
    heard = clear_up(stage.folder)
    return {
        **asdict(result),
        "pretrained": bool(params.pretrained) or params.brings_weights,  # on data that is not known here
        **heard,
    }

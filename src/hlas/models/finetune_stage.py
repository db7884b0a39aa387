"""Stage `finetune`: a pretrained Whisper learns a language, whole, in part or by an adapter -> model/.

In the stage's folder: `model/` (a folder of transformers, or of a peft adapter; the transcribe stage takes either by
either engine), `curve.jsonl`, `samples.jsonl`, `train.jsonl` and `dev.jsonl` (what it learnt from), `rejects.tsv`,
`tensorboard/`; while it runs also `checkpoints/`, from whose last a killed run goes on, and `kept/`.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from hlas.errors import UserError
from hlas.inputs import Inputs
from hlas.models.augmentor import PERTURBATIONS
from hlas.models.finetuning.options import Adapter, Model
from hlas.models.freezing import Freeze, check_freeze
from hlas.models.targets import check_targets
from hlas.models.training.clearing import clear_up
from hlas.models.training.known_keys import check_sets, check_trainer
from hlas.models.training.options import Experiment, KeepOutputs, check_masks, check_seed
from hlas.models.whisper_languages import told_language
from hlas.stage import Stage, Summary


@dataclass(frozen=True)
class Params:
    """models/whisper_tuned*.yaml."""

    model: Model
    trainer: dict[str, Any]

    exp_manager: Experiment = field(default_factory=Experiment)
    name: str = ""  # NeMo's own key: the model's name
    precision: Literal["auto", "32", "bf16-mixed", "16-mixed"] = "auto"  # auto: mixed where the GPU has it
    seed: int = 1
    freeze: Freeze = "encoder"
    adapter: Adapter | None = None
    merge: bool = False  # an adapter is saved inside the whole model, too
    keep_outputs: KeepOutputs | None = None  # of the frozen part of the encoder, computed once

    def __post_init__(self) -> None:
        """Refuse what could not be trained, or would not be what the YAML says, before anything is loaded."""
        check_targets({"model": asdict(self.model), "trainer": self.trainer})
        check_trainer(self.trainer)
        check_seed(self.seed)
        if self.trainer.get("devices", 1) != 1 or self.trainer.get("num_nodes", 1) != 1:
            raise ValueError("trainer.devices: a Whisper is tuned by one process; set devices: 1")
        check_freeze(self.freeze, {})
        if self.keep_outputs and self.freeze in ("none", "feature_encoder"):
            raise ValueError("keep_outputs keeps what a frozen encoder gives: set freeze: encoder")
        if self.keep_outputs:
            check_masks(self.model.spec_augment)
        if self.merge and self.adapter is None:
            raise ValueError("merge: there is no adapter; leave it out, the whole model is saved anyway")

    def check_inputs(self, inputs: Inputs) -> Iterator[UserError]:
        """What the parameters and the inputs are only together: noise and rooms to mix in."""
        yield from check_sets(self.model.train_ds, inputs)


def run(params: Params, stage: Stage) -> Summary:
    """Tune, or go on tuning, and save the best epoch."""
    from hlas.models.finetuning.fit import tune
    from hlas.models.finetuning.job import Tuning

    language = told_language(params.model.language, stage.need_language(), stage.name)
    init = stage.optional("init")
    job = Tuning(
        model=asdict(params.model),
        trainer=params.trainer,
        precision=params.precision,
        seed=params.seed,
        train=stage.one("train").path,
        dev=stage.one("dev").path,
        language=language,
        normalise=stage.need_language().normalise,
        folder=stage.folder,
        init=init.path if init else None,
        init_source=f"stage {init.label}" if init and init.stage else "",
        experiment=params.exp_manager,
        freeze=params.freeze,
        adapter=params.adapter,
        merge=params.merge,
        keep_outputs=params.keep_outputs,
        sets={name: item.path for name in PERTURBATIONS if (item := stage.optional(name))},
    )
    result = tune(job, stage.log)
    heard = clear_up(stage.folder)
    return {
        **asdict(result),
        "model": f"Whisper of {init.label}" if init else f"Whisper {result.size}",
        "pretrained": True,
        "language": language,
        **heard,
    }

"""Stage `train`: a NeMo CTC model from a YAML in models/, best checkpoint by dev WER -> model.nemo.

In the stage's folder: `model.nemo`, `curve.jsonl` (a line an epoch), `tensorboard/`; while it runs also
`checkpoints/`, from whose last a killed run goes on.
"""

import shutil
from dataclasses import dataclass
from typing import Any, Literal

from hlas.errors import UserError
from hlas.manifests.rows import read_manifest
from hlas.models.augmentor import PERTURBATIONS, check_augmentor
from hlas.models.targets import check_targets
from hlas.stage import Stage, Summary
from hlas.tokenizers.stage import read_labels


@dataclass(frozen=True)
class Params:
    """models/*.yaml in NeMo's own form: `model` and `trainer` are handed to NeMo and Lightning."""

    model: dict[str, Any]
    trainer: dict[str, Any]

    name: str = ""  # NeMo's own key: the model's name
    precision: Literal["auto", "32", "bf16-mixed", "16-mixed"] = "auto"  # auto: mixed where the GPU has it
    seed: int = 1

    def __post_init__(self) -> None:
        """Refuse classes that are not on the allow-list and sections that NeMo cannot do without."""
        check_targets({"model": self.model, "trainer": self.trainer})
        for section in ("preprocessor", "encoder", "decoder", "optim", "train_ds"):
            if not isinstance(self.model.get(section), dict):
                raise ValueError(f"model.{section} is missing")
        check_augmentor(self.model["train_ds"])
        if not {"max_epochs", "max_steps"} & set(self.trainer):
            raise ValueError("trainer.max_epochs or trainer.max_steps is missing: the training would never end")


def run(params: Params, stage: Stage) -> Summary:
    """Train, or go on training, and save the best model."""
    from hlas.models.fit import Fit, fit

    train, dev = stage.one("train").path, stage.one("dev").path
    labels = read_labels(stage.one("tokenizer").path)
    durations_s = [row.duration for row in read_manifest(train)]
    if not durations_s:
        raise UserError(f"{stage.name}.train", "the manifest is empty", "see rejects.tsv of the manifests stage")
    stage.log.info("%s: %d utterances, %.2f h", stage.name, len(durations_s), sum(durations_s) / 3600)
    init = stage.optional("init")
    result = fit(
        Fit(
            model=params.model,
            trainer=params.trainer,
            precision=params.precision,
            seed=params.seed,
            train=train,
            dev=dev,
            labels=labels,
            initial=init.path if init else None,
            folder=stage.folder,
            sets={name: item.path for name in PERTURBATIONS if (item := stage.optional(name))},
        ),
        stage.log,
    )
    shutil.rmtree(stage.folder / "checkpoints", ignore_errors=True)
    return {
        "parameters": result.parameters,
        "epochs": result.epochs,
        "steps": result.steps,
        "best_dev_wer": result.best_dev_wer,
        "best_epoch": result.best_epoch,
        "device": result.device,
        "precision": result.precision,
        "decoder": result.decoder,
        "train_utterances": len(durations_s),
        "train_hours": round(sum(durations_s) / 3600, 4),
    }

"""Fine-tune a Whisper: its weights found, what is trained chosen, Lightning's loop of every training around it."""

import logging
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from hlas.errors import UserError
from hlas.manifests.rows import Row, read_manifest, rebase, write_rows
from hlas.models.finetuning.job import Tuning, TuningResult
from hlas.models.training.job import SECTIONS
from hlas.models.training.workers import Team

MODEL = "model"  # the stage's output, a folder


def tune(job: Tuning, log: logging.Logger) -> TuningResult:
    """Train to the end, save the best epoch by dev WER as job.folder/model."""
    from hlas.models.nemo_quiet import import_asr

    import_asr()
    import lightning.pytorch as lightning
    import torch

    from hlas.models.finetuning.adapters import add_lora
    from hlas.models.finetuning.module import TunedWhisper
    from hlas.models.finetuning.saving import check_saving, save_tuned
    from hlas.models.finetuning.start import find, load
    from hlas.models.finetuning.validation import DevTexts
    from hlas.models.training.checkpoints import choose_weights
    from hlas.models.training.curve import Curve
    from hlas.models.training.fit import make_trainer, outcome, set_length, train
    from hlas.models.training.guards import Guard
    from hlas.models.training.refusals import explain_optimiser, explained
    from hlas.models.training.throughput import Throughput
    from hlas.models.training.unfreezing import Unfreezing
    from hlas.models.whisper_languages import check_code
    from hlas.models.whisper_transformers import read_tokenizer

    lightning.seed_everything(job.seed, workers=True, verbose=False)
    torch.set_float32_matmul_precision("high")
    found = find(job.model["size"], job.init, job.init_source)
    check_saving(job.adapter is not None, job.merge, found)
    whisper = load(found, job.model["dropout"])
    tokenizer = read_tokenizer(found.folder)
    if job.model["gradient_checkpointing"]:
        whisper.gradient_checkpointing_enable({"use_reentrant": False})
    with explained("model", "see the arguments of NeMo's SpectrogramAugmentation"):
        model = TunedWhisper(whisper, tokenizer, _config(job), job.language)
    check_code(job.language, model.languages)
    adapted = add_lora(whisper, job.adapter.lora, job.freeze) if job.adapter else None
    model.train()
    freezing, throughput = Unfreezing(job.freeze, {}, False, log), Throughput()
    curve = Curve(job.folder / "curve.jsonl", throughput, log)
    guard = Guard(lambda _, path: _save_last(save_tuned, whisper, adapted, found, path), "")
    trainer = make_trainer(job, Team(), DevTexts(job.normalise), [freezing, throughput, curve, guard], log)
    explain_optimiser(model)
    with guard.explained(job, model):
        rows, rejects = _rows(job, model, log)
        _attach(model, job, rows, trainer, log)
        set_length(trainer, model, job, log)
        log.info(
            "Whisper %s: %.1f M parameters, on %s, %s; starts from %s",
            found.size,
            sum(p.numel() for p in model.parameters()) / 1e6,
            trainer.strategy.root_device,
            trainer.precision,
            found.source,
        )
        started = time.monotonic()
        with _rest_of_encoder(model, job):
            train(trainer, model, job.folder)
            chosen = choose_weights(trainer, model, job.folder, job.experiment, log)
    common = outcome(trainer, model, chosen, curve, freezing.trainable, rejects)
    saved = save_tuned(whisper, adapted, job.merge, found, job.folder / MODEL)
    log.info("tuned in %.0f s; best dev WER %.4f; saved: %s", time.monotonic() - started, chosen.best.dev_wer, saved)
    return TuningResult(**common, saved=saved, size=found.size, base=found.source, base_sha256=found.sha256)


def _save_last(save: Any, whisper: Any, adapted: Any, found: Any, path: Path) -> None:
    """What a training that breaks off leaves: an adapter alone where it can find its base again."""
    save(whisper, adapted, found.base is None, found, path)


def _config(job: Tuning) -> dict[str, Any]:
    """`model` with the data's keys that NeMo's datasets and hlas's loaders need."""
    from hlas.models.training.build import data_sections

    data = {"sample_rate": job.model["sample_rate"], "normalize_transcripts": False, "use_start_end_token": False}
    manifests = (job.folder / f"{split}.jsonl" for split in ("train", "dev"))
    return {**job.model, **data_sections(job.model, job.sets, data, *manifests)}


def _rows(job: Tuning, model: Any, log: logging.Logger) -> tuple[dict[str, list[Row]], dict[str, dict[str, int]]]:
    """The rows of train and dev that can be used; written as manifests whose text is what is to be learnt.

    Others go into rejects.tsv, each with its reason. UserError where none is left.
    """
    from hlas.models.training.screening import REJECTS, Verdict, check_clips, judge_audio, tell, write_rejects

    out, rejects, lines = {}, {}, []
    for split, path in (("train", job.train), ("dev", job.dev)):
        rows = read_manifest(path)
        if not rows:
            raise UserError(f"finetune.{split}", "the manifest is empty", "see rejects.tsv of the manifests stage")
        verdicts = judge_audio(rows, job.model[SECTIONS[split]], model.encoder.longest_s)
        if split == "train":  # a dev row that cannot be learnt can still be heard, and counts
            for i, row in enumerate(rows):
                if verdicts[i].reason:
                    continue
                tokens = len(model.tokenizer.text_tokens(_target(row, job)))
                if not _target(row, job).strip():
                    verdicts[i] = Verdict("empty_text")
                elif tokens > model.tokenizer.longest:
                    verdicts[i] = Verdict("too_many_tokens", f"{tokens}, more than {model.tokenizer.longest}")
        counts = Counter(verdict.reason for verdict in verdicts if verdict.reason)
        lines += [(split, row, verdict) for row, verdict in zip(rows, verdicts, strict=True) if verdict.reason]
        tell("finetune", split, rows, verdicts, counts, log)
        kept = [row for row, verdict in zip(rows, verdicts, strict=True) if not verdict.reason]
        check_clips(f"finetune.{split}", kept, path.parent)
        out[split] = [rebase(row, path.parent, job.folder) for row in kept]
        write_rows(job.folder / f"{split}.jsonl", [replace(row, text=_target(row, job)) for row in out[split]])
        rejects[split] = dict(counts)
    write_rejects(job.folder / REJECTS, lines)
    return out, rejects


def _target(row: Row, job: Tuning) -> str:
    """What Whisper is to write for a row."""
    return (row.raw_text or row.text) if job.model["transcript"] == "raw_text" else row.text


def _attach(model: Any, job: Tuning, rows: Mapping[str, Sequence[Row]], trainer: Any, log: logging.Logger) -> None:
    """Give the model its loaders: of audio, or of kept outputs of the encoder."""
    from hlas.models.training.kept_loading import attach_kept, check_augmented, last_layers
    from hlas.models.training.loading import dev_loader, train_loader

    if job.keep_outputs is None:
        model._train_dl = train_loader(model, rows["train"], job.seed)
        model._validation_dl = dev_loader(model, rows["dev"])
        return
    check_augmented(job)
    model.to(trainer.strategy.root_device)
    tokens = {split: [model.tokenizer.text_to_ids(_target(row, job)) for row in rows[split]] for split in rows}
    attach_kept(model, rows, tokens, job, job.keep_outputs, last_layers(job.freeze), 0, 1, log)


def _rest_of_encoder(model: Any, job: Tuning) -> Any:
    """The model as it is trained: on kept outputs its encoder computes only what is above them."""
    from contextlib import nullcontext

    from hlas.models.training.kept_loading import last_layers
    from hlas.models.training.kept_outputs import kept_encoder

    return kept_encoder(model, last_layers(job.freeze)) if job.keep_outputs else nullcontext()

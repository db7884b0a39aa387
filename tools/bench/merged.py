"""How far a Whisper with its adapters merged is from the base with the adapters beside it, in logits, on real clips.

    .venv/bin/python tools/bench/merged.py FINETUNE_STAGE/model TRANSCRIBE_STAGE/test.jsonl [--clips 10] [--padding-s 1]

The folder is that of a second LoRA stage; the hypotheses name the clips, and the decoder is fed their texts. In
float32, as the models run, and in float64, where only what the merging rounded is left.
"""

import argparse
from pathlib import Path
from typing import Any

import torch

from hlas.manifests.audio.files import load_utterance
from hlas.manifests.rows import read_hypotheses
from hlas.models.finetuning.spelling import Spelling
from hlas.models.finetuning.start import load, on_base
from hlas.models.finetuning.windows import WhisperWindows
from hlas.models.whisper_engine import SAMPLE_RATE_HZ, WINDOW_FRAMES
from hlas.models.whisper_languages import known_to
from hlas.models.whisper_transformers import read_tokenizer


def main() -> None:
    """Print the largest difference of each clip, and of all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("hypotheses", type=Path)
    parser.add_argument("--clips", type=int, default=10)
    parser.add_argument("--padding-s", type=float, default=1.0)
    parser.add_argument("--language", default="cs")
    options = parser.parse_args()
    torch.set_num_threads(1)
    folder = options.model.resolve()
    found = on_base(folder, "")
    merged, beside = load(found).eval(), _beside(found.folder, folder)
    tokenizer = read_tokenizer(found.folder)
    spelling = Spelling.of(tokenizer, known_to(tokenizer), options.language)
    windows = WhisperWindows(merged.config.num_mel_bins, options.padding_s)
    rows = read_hypotheses(options.hypotheses)
    rows = rows[:: max(1, len(rows) // options.clips)][: options.clips]
    worst = {torch.float32: 0.0, torch.float64: 0.0}
    for dtype in worst:
        merged.to(dtype)
        beside.to(dtype)
        for row in rows:
            audio = torch.from_numpy(load_utterance(row.row, options.hypotheses.resolve().parent, SAMPLE_RATE_HZ))
            features, _ = windows(audio[None], torch.tensor([len(audio)]))
            features = torch.nn.functional.pad(features, (0, WINDOW_FRAMES - features.shape[2])).to(dtype)
            given: dict[str, Any] = {
                "input_features": features,
                "decoder_input_ids": torch.tensor([spelling.text_to_ids(row.raw_pred_text)]),
            }
            with torch.inference_mode():
                far = float((merged(**given).logits - beside(**given).logits).abs().max())
            worst[dtype] = max(worst[dtype], far)
            print(f"{dtype} {Path(row.row.audio_filepath).name:32} {far:.1e}", flush=True)
    print(", ".join(f"{dtype}: at most {far:.1e}" for dtype, far in worst.items()))


def _beside(base: Path, folder: Path) -> Any:
    """The base with the first adapter and the second one, neither merged, by peft."""
    from peft import PeftModel
    from transformers import WhisperForConditionalGeneration

    whisper = WhisperForConditionalGeneration.from_pretrained(base, dtype=torch.float32)
    adapted = PeftModel.from_pretrained(whisper, str(folder / "below" / "1"), adapter_name="first")
    adapted.load_adapter(str(folder), adapter_name="second")
    adapted.base_model.set_adapter(["first", "second"])
    return adapted.eval()


if __name__ == "__main__":
    main()

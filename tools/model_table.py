"""The table of models/README.md: what each spec in models/ weighs, how far it strides and what it costs to run.

Run: .venv/bin/python tools/model_table.py            (writes the table; --check only says whether it is up to date)

Parameters and work are counted on tensors without memory (torch's FakeTensorMode), so that the largest model needs no
more than the smallest; all together take under a minute. The last column is the spec's own header line `# choose:`.
"""

import argparse
import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from hlas.paths import project_root
from hlas.yamls import read_extended

FOLDER = project_root() / "models"
README = FOLDER / "README.md"
START, END = "<!-- model table: made by tools/model_table.py -->", "<!-- end of the model table -->"
LABELS = (" ", *"abcdefghijklmnopqrstuvwxyz'")  # of the published English models
SECONDS = 10  # of audio, whose work is counted
WHISPER_WINDOW_S = 30
CHOOSE = "# choose:"
Kind = Literal["train", "finetune", "transcribe"]
ORDER: tuple[Kind, ...] = ("train", "finetune", "transcribe")  # of the table
HEAD = ("spec", "parameters", "ms a frame", "GFLOPs a second of audio", "choose it")


@dataclass(frozen=True, slots=True)
class Size:
    """What a model weighs and costs."""

    parameters: int
    frame_ms: float | None  # None: no CTC model
    flops_per_s: float  # of audio; a multiply-add is two


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the table."""

    name: str
    size: Size
    choose: str
    kind: Kind

    def cells(self) -> tuple[str, ...]:
        """What stands in its columns."""
        frame = f"{self.size.frame_ms:.0f}" if self.size.frame_ms else "–"
        parameters, work = (_three(count) for count in (self.size.parameters / 1e6, self.size.flops_per_s / 1e9))
        return f"`{self.name}.yaml`", f"{parameters} M", frame, work, self.choose


def rows(folder: Path = FOLDER) -> list[Row]:
    """Every spec: CTC models, families together, the smaller first; Whisper fine-tuned; Whisper as it is."""
    lines = (row(path) for path in folder.glob("*.yaml"))
    return sorted(lines, key=lambda r: (ORDER.index(r.kind), r.name.partition("_")[0], r.size.parameters, r.name))


def kind_of(spec: Mapping[str, Any]) -> Kind:
    """The kind of stage that a spec of models/ is for."""
    if "engine" in spec:  # Whisper as it is
        return "transcribe"
    return "train" if "encoder" in spec["model"] else "finetune"  # a CTC model is built of parts; a Whisper is named


def row(path: Path) -> Row:
    """A spec's line."""
    from hlas.models.finetuning.start import DEFAULT_SIZE
    from hlas.params import resolve_all

    data, problem = resolve_all(read_extended(path).data, {})
    if problem:
        raise ValueError(f"{path.name}: {problem}")
    kind = kind_of(data)
    if kind == "train":
        size = ctc_size(data["model"])
    elif kind == "finetune":
        size = whisper_size(str(data["model"]["size"] or DEFAULT_SIZE))
    else:
        size = whisper_size(str(data["model"]))
    return Row(path.stem, size, chosen_for(path), kind)


def chosen_for(path: Path) -> str:
    """The spec's own word on when to choose it."""
    lines = path.read_text(encoding="utf-8").splitlines()
    found = [line.removeprefix(CHOOSE).strip() for line in lines if line.startswith(CHOOSE)]
    if len(found) != 1:
        raise ValueError(f"{path.name}: {len(found)} header lines start with '{CHOOSE}', not one")
    return found[0]


def ctc_size(model: Mapping[str, Any]) -> Size:
    """Encoder and decoder of NeMo's `model` section; the features are left out, their work is far below a percent."""
    from hlas.models.nemo_quiet import import_asr

    build = import_asr().models.EncDecCTCModel.from_config_dict
    import torch

    labels = {"num_classes": len(LABELS), "vocabulary": list(LABELS)}
    with _Counter() as counter:
        encoder = build(model["encoder"]).eval()
        # as in NeMo, a decoder that names no feat_in takes what the encoder gives
        decoder = build({"feat_in": encoder._feat_out} | dict(model["decoder"]) | labels).eval()
        count = sum(p.numel() for part in (encoder, decoder) for p in part.parameters())
        step_s = float(model["preprocessor"]["window_stride"])
        frames = round(SECONDS / step_s)
        features = torch.zeros(1, int(model["preprocessor"]["features"]), frames)
        flops, (encoded, _) = counter.flops_of(encoder, audio_signal=features, length=torch.tensor([frames]))
        more, _ = counter.flops_of(decoder, encoder_output=encoded)
    return Size(count, 1000 * step_s * round(frames / encoded.shape[2]), (flops + more) / SECONDS)


def whisper_size(name: str) -> Size:
    """A Whisper model as it is: its encoder's work on a window of 30 s; the decoder's depends on the text."""
    import torch
    from transformers import WhisperConfig, WhisperForConditionalGeneration

    from hlas.models.whisper_sizes import SIZES

    shape = SIZES[name]
    config = WhisperConfig(
        vocab_size=51866 if shape.mels == 128 else 51865,
        num_mel_bins=shape.mels,
        d_model=shape.width,
        encoder_layers=shape.layers,
        decoder_layers=shape.decoder_layers or shape.layers,
        encoder_attention_heads=shape.heads,
        decoder_attention_heads=shape.heads,
        encoder_ffn_dim=4 * shape.width,
        decoder_ffn_dim=4 * shape.width,
    )
    with _Counter() as counter:
        model = WhisperForConditionalGeneration(config).eval()
        count = sum(p.numel() for p in model.parameters())
        flops, _ = counter.flops_of(model.model.encoder, torch.zeros(1, shape.mels, 100 * WHISPER_WINDOW_S))
    return Size(count, None, flops / WHISPER_WINDOW_S)


class _Counter:
    """Tensors without memory; attention and LSTMs in plain matrix products, which alone torch counts everywhere."""

    def __enter__(self) -> "_Counter":
        import contextlib

        import torch
        from nemo.core.classes.common import typecheck
        from torch._subclasses.fake_tensor import FakeTensorMode
        from torch.nn.attention import SDPBackend, sdpa_kernel

        self._fast = torch.backends.mha.get_fastpath_enabled()
        torch.backends.mha.set_fastpath_enabled(False)
        self._stack = contextlib.ExitStack()
        self._stack.callback(torch.backends.mha.set_fastpath_enabled, self._fast)
        for context in (
            FakeTensorMode(),
            sdpa_kernel(SDPBackend.MATH),
            torch.backends.mkldnn.flags(enabled=False),
            typecheck.disable_checks(),
            torch.no_grad(),
        ):
            self._stack.enter_context(context)
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def flops_of(self, module: Any, *args: Any, **kwargs: Any) -> tuple[int, Any]:
        """The work of one call, and what it returns."""
        from torch.utils.flop_counter import FlopCounterMode

        with FlopCounterMode(display=False) as counted:
            out = module(*args, **kwargs)
        return counted.get_total_flops(), out


def table(lines: list[Row]) -> str:
    """The Markdown table."""
    ruler = ["---", "---:", "---:", "---:", "---"]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (HEAD, ruler, *(line.cells() for line in lines)))


def with_table(text: str, made: str) -> str:
    """The README's text with the table between its two markers; ValueError where they are missing."""
    before, start, rest = text.partition(START)
    _, end, after = rest.partition(END)
    if not start or not end:
        raise ValueError(f"no '{START}' … '{END}'")
    return f"{before}{START}\n\n{made}\n\n{END}{after}"


def _three(value: float) -> str:
    """Three significant digits: 0.529, 12.8, 333, 1540."""
    places = 2 - math.floor(math.log10(value))
    return f"{round(value, places):.{max(0, places)}f}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit with 1 where the table is out of date"
    )
    check = parser.parse_args().check
    made = table(rows())
    old = README.read_text(encoding="utf-8")
    new = with_table(old, made)
    if new == old:
        print("the table is up to date")
        return 0
    if check:
        print("the table is out of date: run tools/model_table.py")
        return 1
    README.write_text(new, encoding="utf-8")
    print(f"wrote the table into {README.relative_to(project_root())}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

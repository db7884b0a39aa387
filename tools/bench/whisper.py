"""Speed of Whisper's engines and options on the same clips, and what the faster ones cost in WER.

    OMP_NUM_THREADS=1 .venv/bin/python tools/bench/whisper.py MANIFEST --language manifests/languages/en.yaml \
        --clips 40 [--device cpu] [--rounds 1] [--system 'NAME: engine=transformers beam_size=1'] …

Each system hears all clips, in one process and with one thread, the rounds interleaved; seconds are of the processor on
a CPU, of the wall on a GPU, decoding of the audio and loading not counted, medians of the rounds. The first system is
the peer: ratios are to it, and the WER's difference to it comes with its paired bootstrap interval over utterances;
with more than two systems, all pairs follow.
`pipeline` as an engine is `transformers`' own pipeline as its documentation has it: without fallback, or with
`temperatures=0,0.2,…` with the fallback that the card of openai/whisper-large-v3 describes.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from hlas.manifests.audio.files import load_utterance
from hlas.manifests.rows import read_manifest
from hlas.manifests.text import Language, load_language
from hlas.models.transcribe_stage import Params
from hlas.models.whisper_asr import Whisper
from hlas.models.whisper_engine import SAMPLE_RATE_HZ
from hlas.models.whisper_folders import engine_folder
from hlas.report.significance import bootstrap_wer, interval95, utterance_units

RESAMPLES = 1000
SYSTEMS = (
    "pipeline, greedy: engine=pipeline beam_size=1",
    "transformers, 8 s, greedy: engine=transformers beam_size=1",
    "transformers, 8 s, beam 5: engine=transformers",
    "whole windows, greedy: beam_size=1 padding_s=30",
    "whole windows, beam 5: padding_s=30",
    "4 s, greedy: beam_size=1 padding_s=4",
    "8 s, greedy: beam_size=1",
    "4 s, beam 5: padding_s=4",
    "8 s, beam 5: beam_size=5",
)
PIPELINE_FALLBACK = {"compression_ratio_threshold": 1.35, "logprob_threshold": -1.0, "no_speech_threshold": 0.6}
Clips = Sequence[Any]  # (samples,) each


def main() -> None:
    """Run and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifest", type=Path)
    parser.add_argument("--language", type=Path, required=True)
    parser.add_argument("--model", default="base")
    parser.add_argument("--clips", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--system", action="append")
    options = parser.parse_args()
    rows = read_manifest(options.manifest)
    rows = rows[:: max(1, len(rows) // options.clips)][: options.clips]
    references = [row.text for row in rows]
    clips = [load_utterance(row, options.manifest.resolve().parent, SAMPLE_RATE_HZ) for row in rows]
    audio_s = sum(len(clip) for clip in clips) / SAMPLE_RATE_HZ
    language = load_language(options.language)
    print(f"{len(clips)} clips, {audio_s:.0f} s, {audio_s / len(clips):.1f} s each; Whisper {options.model}")
    systems = [_system(line, options.model, options.device, language) for line in options.system or SYSTEMS]
    seconds: list[list[float]] = [[] for _ in systems]
    texts: list[list[str]] = [[] for _ in systems]
    clock = time.process_time if options.device == "cpu" else time.perf_counter
    for _ in range(options.rounds):
        for i, (_, hear) in enumerate(systems):
            started = clock()
            texts[i] = hear(clips)
            seconds[i].append(clock() - started)
            name = systems[i][0]
            print(f"  {name:28} {seconds[i][-1]:7.1f} s  {_scores(references, texts[i], texts[0])}", flush=True)
    median = [statistics.median(times) for times in seconds]
    for (name, _), own in zip(systems, median, strict=True):
        print(f"{name:28} RTFx {audio_s / own:6.1f}  {median[0] / own:5.2f}x the peer")
    for i, j in combinations(range(1, len(systems)), 2):
        print(f"{systems[j][0]} against {systems[i][0]}: {_scores(references, texts[j], texts[i])}")


def _system(line: str, model: str, device: str, language: Language) -> tuple[str, Callable[[Clips], list[str]]]:
    """A name, and a function that turns clips into normalised texts."""
    name, _, settings = line.partition(": ")
    given: dict[str, Any] = {"model": model, "device": device}
    for setting in settings.split():
        key, _, value = setting.partition("=")
        given[key] = _typed(getattr(Params, key), value)
    code = language.whisper_code or language.code
    if given.get("engine") == "pipeline":
        how = {"language": code, "task": "transcribe", "num_beams": given.get("beam_size", 5)}
        if "temperatures" in given:
            how |= PIPELINE_FALLBACK | {"temperature": given["temperatures"]}
        return name, _pipeline(model, device, how, language)
    params = Params(**given)
    whisper = Whisper(engine_folder(model, None, params).folder, params, code, threads=1)
    return name, lambda clips: [language.normalise(t.text) for t in whisper.transcribe_all(clips)]


def _typed(default: Any, value: str) -> Any:
    """A setting as its field has it; numbers are numbers where the default is a word."""
    if isinstance(default, tuple):
        return tuple(map(float, value.split(",")))
    if default == "auto" and value.replace(".", "").isdigit():
        return float(value)
    return type(default)(value)


def _pipeline(model: str, device: str, how: dict[str, Any], language: Language) -> Callable[[Clips], list[str]]:
    import torch
    from transformers import pipeline

    torch.set_num_threads(1)
    folder = engine_folder(model, None, Params(engine="transformers")).folder
    run: Any = pipeline("automatic-speech-recognition", model=str(folder), device=device)
    run.tokenizer.pad_token_id = run.model.config.eos_token_id  # a converted folder may name none; batches need one

    def hear(clips: Clips) -> list[str]:
        heard = run([clip.copy() for clip in clips], batch_size=8, generate_kwargs=how)  # it writes into its input
        return [language.normalise(one["text"]) for one in heard]

    return hear


def _scores(references: Sequence[str], texts: Sequence[str], peers: Sequence[str]) -> str:
    """WER, its difference to the peer and that difference's 95 % interval, in points."""
    from jiwer import process_words

    def errors(hypotheses: Sequence[str]) -> Any:
        pairs = [process_words(ref, hyp) for ref, hyp in zip(references, hypotheses, strict=True)]
        return np.array([one.substitutions + one.deletions + one.insertions for one in pairs])

    words = np.array([len(ref.split()) for ref in references])
    own, peer = errors(texts), errors(peers)
    drawn = bootstrap_wer([peer, own], [words, words], utterance_units(words), RESAMPLES, seed=1)
    low, high = interval95(drawn[:, 1] - drawn[:, 0])
    wer, difference = 100 * own.sum() / words.sum(), 100 * (own - peer).sum() / words.sum()
    same = sum(a == b for a, b in zip(texts, peers, strict=True))
    return f"WER {wer:6.2f} %  {difference:+6.2f} [{100 * low:+.2f}, {100 * high:+.2f}]  {same} texts as the peer's"


if __name__ == "__main__":
    main()

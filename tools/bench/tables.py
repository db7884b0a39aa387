"""A table of 10^4, 10^5 and 10^6 rows to a manifest without touching audio: seconds, memory, and the rows themselves.

Run: .venv/bin/python tools/bench/tables.py [--rows 10000,100000,1000000] [--workers 2] [--rounds 1] [--folder DIR]

Systems, each a process of its own, interleaved; memory is the highest sum over the process and its children.
  hlas          the manifests stage, rejects and audit included: audio {format: keep, trust_durations: true}, audit
                {duplicate_audio: false}; each clip is looked up in its folder, 200 are opened
  csv per row   as NeMo's script for Common Voice reads: csv.DictReader with its default quoting, one call of next() for
                "the header", lower case, one json.dumps a row; durations from clip_durations.tsv instead of sox
  lhotse        lhotse.recipes.commonvoice as it is, which opens every clip (up to --lhotse-rows)
The table is made here: 1 sentence in 100 holds a lone quote, 1 in 200 a foreign letter, 1 in 500 digits, and one row in
5,000 is torn. Every clip is a hard link to four seconds of sound. Needs 1 GiB of disk for 10^6 rows.
"""

import argparse
import csv
import json
import logging
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:  # the workers import this module too: the memory that is measured is the product's
    import numpy as np

LETTERS = "abcdefghijklmnopqrstuvwxyz"
COLUMNS = """client_id path sentence_id sentence sentence_domain up_votes down_votes age gender accents variant locale
segment""".split()  # noqa: SIM905  # a list of 13 quoted names is no easier to read
CLIP_MS = 4000
LINKS_PER_FILE = 50_000  # file systems allow 65,000
SYSTEMS = ("hlas", "csv per row", "lhotse")


def sentences(count: int, rng: "np.random.Generator") -> list[str]:
    """Random sentences of 6 to 16 words with Zipf's frequencies, some with dirt."""
    import numpy as np

    words = ["".join(rng.choice(list(LETTERS), size)) for size in rng.integers(2, 10, 5000)]
    p = 1 / np.arange(1, len(words) + 1)
    lengths = rng.integers(6, 17, count)
    drawn = iter(rng.choice(len(words), lengths.sum(), p=p / p.sum()).tolist())
    out = []
    for i, length in enumerate(lengths.tolist()):
        text = " ".join(words[next(drawn)] for _ in range(length)).capitalize() + "."
        if i % 100 == 7:
            text = '"' + text
        if i % 200 == 11:
            text = text.replace("e", "ж", 1)
        if i % 500 == 13:
            text += " 1912"
        out.append(text)
    return out


def write_table(path: Path, first: int, count: int, speakers: range, rng: "np.random.Generator") -> None:
    """Rows of 360 bytes or so, as Common Voice has them."""
    clips = [f"common_voice_xx_{first + i}.mp3" for i in range(count)]
    cells = dict.fromkeys(COLUMNS, [""] * count)
    cells |= {
        "client_id": [f"{speaker:0128x}" for speaker in rng.integers(speakers.start, speakers.stop, count).tolist()],
        "path": clips,
        "sentence_id": [f"{first + i:064x}" for i in range(count)],
        "sentence": sentences(count, rng),
        "sentence_domain": ["general"] * count,
        "up_votes": ["2"] * count,
        "down_votes": ["0"] * count,
        "age": ["twenties"] * count,
        "gender": ["male_masculine"] * count,
        "accents": ["United States English"] * count,
        "locale": ["xx"] * count,
    }
    with path.open("w", encoding="utf-8") as file:
        file.write("\t".join(COLUMNS) + "\n")
        for i, row in enumerate(zip(*(cells[name] for name in COLUMNS), strict=True)):
            file.write("\t".join(row[:-2] if i % 5000 == 17 else row) + "\n")


def make_release(folder: Path, rows: int) -> None:
    """A release whose train table has that many rows, dev and test a hundredth each."""
    import numpy as np
    import soundfile

    rng = np.random.default_rng(0)
    clips = folder / "clips"
    clips.mkdir(parents=True)
    first = 1
    for split, count, speakers in (
        ("train", rows, range(1000, 1000 + rows // 40)),
        ("dev", rows // 100, range(500)),
        ("test", rows // 100, range(500, 1000)),
    ):
        write_table(folder / f"{split}.tsv", first, count, speakers, rng)
        first += count
    tone = 0.2 * np.sin(np.arange(16000 * CLIP_MS // 1000) / 9)
    with (folder / "clip_durations.tsv").open("w", encoding="utf-8") as file:
        file.write("clip\tduration[ms]\n")
        for i in range(1, first):
            if i % LINKS_PER_FILE == 1:
                original = clips / f"common_voice_xx_{i}.mp3"
                soundfile.write(original, tone, 16000, format="MP3")
            else:
                os.link(original, clips / f"common_voice_xx_{i}.mp3")
            file.write(f"common_voice_xx_{i}.mp3\t{CLIP_MS}\n")


def run_hlas(release: Path, out: Path, workers: int) -> None:
    from hlas.manifests.audio.options import AudioOptions
    from hlas.manifests.audit import Options
    from hlas.manifests.stage import Params, run
    from hlas.manifests.text import Language
    from hlas.stage import Input, Stage

    logging.basicConfig(level=logging.WARNING)
    params = Params(audio=AudioOptions("keep", trust_durations=True), audit=Options(duplicate_audio=False))
    language = Language("xx", "bench", tuple(LETTERS))
    log = logging.getLogger("bench")
    run(params, Stage("manifests", "manifests", out, {"release": (Input(release),)}, language, log, workers))


def run_csv(release: Path, out: Path, _workers: int) -> None:
    with (release / "clip_durations.tsv").open(encoding="utf-8") as file:
        next(file)
        seconds = {clip: int(ms) / 1000 for clip, ms in (line.rstrip("\n").split("\t") for line in file)}
    for split in ("train", "dev", "test"):
        with (
            (release / f"{split}.tsv").open(encoding="utf-8") as table,
            (out / f"{split}.jsonl").open("w", encoding="utf-8") as manifest,
        ):
            reader = csv.DictReader(table, delimiter="\t")
            next(reader, None)
            for row in reader:
                text = row["sentence"].lower().strip()
                path = f"{release}/clips/{row['path']}"
                data = {"audio_filepath": path, "duration": seconds.get(row["path"]), "text": text}
                manifest.write(json.dumps(data) + "\n")


def run_lhotse(release: Path, out: Path, workers: int) -> None:
    from lhotse.recipes.commonvoice import prepare_commonvoice

    logging.disable(logging.WARNING)
    (out / "corpus").mkdir()
    (out / "corpus" / "xx").symlink_to(release, target_is_directory=True)
    prepare_commonvoice(out / "corpus", out, languages=["xx"], num_jobs=workers)


RUN = dict(zip(SYSTEMS, (run_hlas, run_csv, run_lhotse), strict=True))


def tree_rss_mib(root: int) -> float:
    """Resident memory of a process and its children; pages they share count for each."""
    children: dict[int, list[int]] = {}
    pages: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
                pages[int(entry.name)] = int((entry / "statm").read_text().split()[1])
            except (OSError, IndexError):  # it has ended
                continue
            children.setdefault(parent, []).append(int(entry.name))
    total, todo = 0, [root]
    while todo:
        process = todo.pop()
        total += pages.get(process, 0)
        todo += children.get(process, [])
    return total * os.sysconf("SC_PAGE_SIZE") / 2**20


class Measured(NamedTuple):
    """One run, the interpreter's start included."""

    wall_s: float
    cpu_s: float  # of all its processes: other load on the machine hardly changes it
    mib: float  # highest


def measure(system: str, release: Path, out: Path, workers: int) -> Measured:
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    command = [sys.executable, __file__, "--one", system, "--workers", str(workers), "--folder", str(release), str(out)]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    started, most = time.perf_counter(), 0.0
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL if system == "lhotse" else None)
    while process.poll() is None:
        most = max(most, tree_rss_mib(process.pid))
        time.sleep(0.05)
    if process.returncode:
        raise SystemExit(f"{system} failed")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
    return Measured(time.perf_counter() - started, cpu_s, most)


def clips_of(system: str, out: Path) -> set[str]:
    """The clips in a system's train manifest."""
    import polars as pl

    if system == "lhotse":
        lines = pl.scan_ndjson(out / "cv-xx_supervisions_train.jsonl.gz").select("id").collect()
        return {f"{name}.mp3" for name in lines["id"]}
    lines = pl.scan_ndjson(out / "train.jsonl", schema={"audio_filepath": pl.String}).collect()
    return set(lines["audio_filepath"].str.replace(r".*/", ""))


def explain(release: Path, found: dict[str, set[str]], hlas_out: Path) -> list[str]:
    """Why the systems' rows differ, from the table itself."""
    import polars as pl

    rows = (release / "train.tsv").read_text(encoding="utf-8").split("\n")[1:-1]
    rejects = pl.read_csv(hlas_out / "rejects.tsv", separator="\t", quote_char=None).filter(split="train")
    lines = [f"  train.tsv: {len(rows)} rows; hlas: {len(found['hlas'])} kept + {rejects.height} rejected = "]
    lines[0] += f"{len(found['hlas']) + rejects.height}: " + ", ".join(
        f"{reason} {count}" for reason, count in Counter(rejects["reason"]).most_common()
    )
    for system, clips in found.items():
        if system == "hlas":
            continue
        missing = found["hlas"] - clips
        first = rows[0].split("\t")[1]
        quoted = {row.split("\t")[1] for row in rows if '"' in row}
        lines.append(
            f"  {system}: {len(clips)} rows; lacks {len(missing)} that hlas keeps (the first row: {first in missing}, "
            f"{len(missing & quoted)} with a lone quote, {len(missing - quoted - {first})} swallowed by one); "
            f"has {len(clips - found['hlas'])} that hlas rejects with a reason"
        )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", default="10000,100000,1000000")
    parser.add_argument("--lhotse-rows", type=int, default=10_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--folder", type=Path, help="where the tables are made and kept; default: a temporary folder")
    parser.add_argument("--one", choices=SYSTEMS, help=argparse.SUPPRESS)
    parser.add_argument("out", nargs="?", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        RUN[args.one](args.folder, args.out, args.workers)
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = (args.folder or Path(temporary)).resolve()
        print(f"{args.workers} workers, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} at the start; median of")
        print(f"{args.rounds}: wall s, CPU s of all processes (ratio to hlas), highest MiB of all processes")
        for count in map(int, args.rows.split(",")):
            release = folder / f"release_{count}"
            if not release.is_dir():
                make_release(release, count)
            size = (release / "train.tsv").stat().st_size / 2**20
            systems = [s for s in SYSTEMS if s != "lhotse" or count <= args.lhotse_rows]
            runs: dict[str, list[Measured]] = {system: [] for system in systems}
            for _ in range(args.rounds):
                for system in systems:
                    runs[system].append(measure(system, release, folder / f"out_{system}", args.workers))
            print(f"{count} rows, {size:.0f} MiB")
            ours = statistics.median(run.cpu_s for run in runs["hlas"])
            for system, found in runs.items():
                wall_s, cpu_s = (statistics.median(values) for values in ([r[i] for r in found] for i in (0, 1)))
                memory = max(run.mib for run in found)
                print(f"  {system:12} {wall_s:8.2f} {cpu_s:8.2f} ({cpu_s / ours:5.2f}x) {memory:8.0f}", flush=True)
            clips = {system: clips_of(system, folder / f"out_{system}") for system in systems}
            print("\n".join(explain(release, clips, folder / "out_hlas")), flush=True)


if __name__ == "__main__":
    main()

"""Stage `noisy`: the clips of manifests with noise mixed in at one SNR, or in a room, as a test set of its own.

Writes <split>.jsonl and clips/ under the same utterance names, so that a report pairs noisy with clean. With
`foreach: {snr_db: [20, 10, 0]}` a recipe makes one variant a level. See mixing for what the SNR means.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hlas.errors import UserError
from hlas.manifests.rows import Row, read_manifest, write_rows
from hlas.parallel import map_chunks
from hlas.progress import track
from hlas.stage import Stage, Summary
from hlas.stages import MANIFEST_SPLITS

CHUNK = 32  # clips a worker takes at a time
CLIPS = "clips"


@dataclass(frozen=True, slots=True)
class Params:
    """Parameters of the stage."""

    snr_db: float | None = None  # of the mix; needs `noise`
    seed: int = 1
    sample_rate_hz: int = 16000

    def __post_init__(self) -> None:
        """Refuse levels at which nothing is left of the one or the other."""
        if self.snr_db is not None and not -30 <= self.snr_db <= 60:
            raise ValueError("snr_db is not between -30 and 60")


def run(params: Params, stage: Stage) -> Summary:
    """Mix every clip of every manifest that the stage reads."""
    from hlas.augment.mixing import Mixer

    noise, rooms = stage.optional("noise"), stage.optional("rooms")
    if noise is None and rooms is None:
        raise UserError(stage.name, "neither noise nor rooms", "noise: augment.noise, rooms: augment.rooms, or both")
    if (noise is None) != (params.snr_db is None):
        missing, given = ("noise", "snr_db") if noise is None else ("snr_db", "noise")
        raise UserError(stage.name, f"{given} without {missing}", "give both, or only rooms")
    target = stage.folder / CLIPS
    target.mkdir()
    sets = {name: item.path for name, item in (("noise", noise), ("rooms", rooms)) if item}
    for name, path in sets.items():
        if not read_manifest(path):
            raise UserError(f"{stage.name}.{name}", "the manifest is empty", "give one with clips")
    splits = {split: (path, read_manifest(path)) for split, path in stage.splits("data").items()}
    _check(stage.name, splits)
    counts = {}
    for split, (path, rows) in splits.items():
        mixer = Mixer(
            path.parent,
            target,
            params.seed,
            params.sample_rate_hz,
            params.snr_db,
            sets.get("noise"),
            sets.get("rooms"),
        )
        mixed = map_chunks(mixer, rows, workers=stage.workers, chunk_size=CHUNK)
        counts[split] = write_rows(stage.folder / MANIFEST_SPLITS[split], track(mixed, split, len(rows), "clips"))
        level = "in rooms" if params.snr_db is None else f"at {params.snr_db:g} dB{' in rooms' if rooms else ''}"
        stage.log.info("%s: %d clips %s", split, counts[split], level)
    return {"counts": counts, "snr_db": params.snr_db}


def _check(name: str, splits: dict[str, tuple[Path, list[Row]]]) -> None:
    """One clip an utterance: two of one name would overwrite each other."""
    foreign = [split for split in splits if split not in MANIFEST_SPLITS]
    if foreign:
        raise UserError(f"{name}.data", f"'{foreign[0]}' is no split", f"name the file {', '.join(MANIFEST_SPLITS)}")
    names: Sequence[str] = [row.utterance for _, rows in splits.values() for row in rows]
    twice = [utterance for utterance, count in Counter(names).items() if count > 1]
    if twice:
        problem = f"{len(twice)} utterance(s) have a name twice, the first is '{twice[0]}'"
        raise UserError(f"{name}.data", problem, "give each clip a name of its own")

"""An existing NeMo manifest: one JSON object a line, from this product or from any other.

A file is the table 'train'; a folder may hold train, dev and test. Relative audio paths start from the manifest's
folder; others are allowed, as NeMo writes absolute ones. `offset` makes a row a part of its file. The transcript is
`raw_text` where there is one, else `text`, so that this language's rules are applied to what the corpus had.
"""

from pathlib import Path

import polars as pl

from hlas.manifests.readers.plain_list import COLUMNS, json_lines
from hlas.manifests.readers.reading import ReadCorpus, frame_of, table_files

SUFFIXES = (".jsonl", ".json", ".ndjson")
_NEMO_COLUMNS = (("file", "audio_filepath"), ("sentence", "text"), ("raw_sentence", "raw_text"), *COLUMNS[2:])


def open_corpus(path: Path, scratch: Path) -> ReadCorpus:
    """Open a manifest, or a folder with manifests named train, dev, test; nothing is unpacked into `scratch`."""
    files = table_files(path, SUFFIXES, "NeMo manifest")
    return ReadCorpus(str(path), path if path.is_dir() else path.parent, files, _read)


def _read(path: Path) -> pl.DataFrame:
    return frame_of(json_lines(path, _NEMO_COLUMNS))

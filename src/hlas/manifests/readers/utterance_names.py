"""Names for utterances that are theirs alone and fit for a file, for corpora whose files may share names."""

import polars as pl

MAX_NAME_BYTES = 200  # a file system takes 255; a suffix and the name of a part file come to it
_CUT_NAME_CHARS = MAX_NAME_BYTES // 4  # of a name that is too long: a character has at most 4 bytes


def utterance_names(parts: pl.DataFrame) -> pl.DataFrame:
    """A name for each different part: the file's stem, with as many of its folders as it needs to be the only one.

    The place in the file follows in milliseconds. What is still the same (a.wav and a.flac) is numbered. From the
    columns part (what is one utterance), file, offset_s to part, utterance; where `file` is '', so is the name.
    """
    nowhere = parts.filter(pl.col("file") == "").select("part", utterance=pl.lit("")).unique("part")
    milliseconds = (pl.col("offset_s") * 1000).round().cast(pl.Int64)
    words = pl.col("file").str.strip_chars("/").str.split("/")
    pending = (
        parts.filter(pl.col("file") != "")
        .unique("part", keep="first", maintain_order=True)
        .select(
            "part",
            folders=words.list.head(words.list.len() - 1),
            stem=pl.concat_str(stem(pl.col("file")), milliseconds, separator="-", ignore_nulls=True),
        )
    )
    named = [nowhere]
    alike = []
    used = 0  # folders in the name
    while pending.height:
        name = pl.col("folders").list.tail(used).list.join("-") + "-" + pl.col("stem") if used else pl.col("stem")
        pending = pending.with_columns(utterance=_fitting(name))
        taken = pl.concat(named)["utterance"]
        free = (pl.len().over("utterance") == 1) & ~pl.col("utterance").is_in(taken.implode())
        pending = pending.with_columns(free=free, ends=pl.col("folders").list.len() <= used)
        named.append(pending.filter("free").select("part", "utterance"))
        alike.append(pending.filter(~pl.col("free") & pl.col("ends")).select("part", "utterance"))
        pending = pending.filter(~pl.col("free") & ~pl.col("ends"))
        used += 1
    return pl.concat([*named, _numbered(alike, named)])


def stem(file: pl.Expr) -> pl.Expr:
    """As Path.stem."""
    return file.str.extract(r"([^/]*)$").str.replace(r"^(.+)\.[^.]+$", "${1}")


def _fitting(name: pl.Expr) -> pl.Expr:
    """No hidden file, and none whose name is too long."""
    name = name.str.strip_chars_start(".")
    name = pl.when(name == "").then(pl.lit("_")).otherwise(name)
    return pl.when(name.str.len_bytes() > MAX_NAME_BYTES).then(name.str.tail(_CUT_NAME_CHARS)).otherwise(name)


def _numbered(alike: list[pl.DataFrame], named: list[pl.DataFrame]) -> pl.DataFrame:
    """a, a-2, a-3 …, whatever is not taken."""
    taken = set(pl.concat(named)["utterance"])
    last: dict[str, int] = {}
    out = []
    for part, name in (row for frame in alike for row in frame.iter_rows()):
        number = last.get(name, 0) + 1
        while (numbered := name if number == 1 else f"{name}-{number}") in taken:
            number += 1
        last[name] = number
        taken.add(numbered)
        out.append((part, numbered))
    return pl.DataFrame(out, {"part": pl.String, "utterance": pl.String}, orient="row")

"""A stage's summary or parameters (any JSON) as pairs and small tables that a person can read."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_LONG_LIST = 12  # entries from which on a list is only counted


@dataclass(frozen=True, slots=True)
class FactTable:
    """Records of one form, such as the counts of each split."""

    name: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class Facts:
    """What is to be shown of one stage."""

    pairs: tuple[tuple[str, str], ...]
    tables: tuple[FactTable, ...]

    def __bool__(self) -> bool:
        """Whether there is anything to show."""
        return bool(self.pairs or self.tables)


def facts(data: Mapping[str, Any]) -> Facts:
    """Records of one form become tables, everything else pairs; 'counts' is left out of the names."""
    pairs: list[tuple[str, str]] = []
    tables: list[FactTable] = []
    _collect(data, "", pairs, tables)
    return Facts(tuple(pairs), tuple(tables))


def flat(data: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    """('optim.lr', '0.01') for every leaf of nested JSON; keys stay as a recipe writes them."""
    if isinstance(data, Mapping):
        for key, value in data.items():
            yield from flat(value, f"{prefix}.{key}" if prefix else str(key))
    elif isinstance(data, list | tuple) and any(isinstance(v, Mapping | list | tuple) for v in data):
        if len(data) > _LONG_LIST:
            yield prefix, f"{len(data)} entries"
        else:
            yield from flat({str(number): value for number, value in enumerate(data)}, prefix)
    else:
        yield prefix, leaf(data)


def _collect(data: Mapping[str, Any], prefix: str, pairs: list[tuple[str, str]], tables: list[FactTable]) -> None:
    for key, value in data.items():
        name = f"{prefix}{key.replace('_', ' ')}"
        if isinstance(value, Mapping) and key == "counts" and not _is_record_group(value):
            _collect(value, prefix, pairs, tables)
        elif isinstance(value, Mapping) and _is_record_group(value):
            tables.append(_table(name, {str(k): v for k, v in value.items()}))
        elif isinstance(value, Mapping):
            _collect(value, f"{name}: ", pairs, tables)
        elif isinstance(value, list | tuple) and value and all(_is_record(v) for v in value):
            if len(value) > _LONG_LIST:
                pairs.append((name, f"{len(value)} entries"))
            else:
                tables.append(_table(name, {str(number): v for number, v in enumerate(value, 1)}))
        else:
            pairs.append((name, leaf(value)))


def _is_record(value: Any) -> bool:
    """A mapping of leaves; a nested mapping of leaves may be among them, and is shown in one cell."""
    return isinstance(value, Mapping) and bool(value) and not any(_nested(v) for v in value.values())


def _nested(value: Any) -> bool:
    if isinstance(value, Mapping):
        return any(isinstance(v, Mapping | list | tuple) for v in value.values())
    return isinstance(value, list | tuple) and any(isinstance(v, Mapping | list | tuple) for v in value)


def _is_record_group(value: Mapping[str, Any]) -> bool:
    return bool(value) and all(_is_record(v) for v in value.values())


def _table(name: str, records: Mapping[str, Mapping[str, Any]]) -> FactTable:
    keys = list(dict.fromkeys(key for record in records.values() for key in record))
    rows = [(label, *(leaf(record[k]) if k in record else "" for k in keys)) for label, record in records.items()]
    return FactTable(name, ("", *(key.replace("_", " ") for key in keys)), tuple(rows))


def leaf(value: Any) -> str:
    """A JSON value in words; whole numbers from 10 000 on are grouped by narrow no-break spaces."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}".replace(",", "\u202f") if abs(value) >= 10_000 else str(value)
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{str(k).replace('_', ' ')} {leaf(v)}" for k, v in value.items()) or "–"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return f"{len(value)} entries" if len(value) > _LONG_LIST else ", ".join(map(leaf, value)) or "–"
    return "–" if value is None or value == "" else str(value)

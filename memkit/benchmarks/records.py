"""Rows of upstream files, read and checked in one place.

A file is a JSON list of objects or JSON lines, whatever it is called, in UTF-8 with or without a
byte order mark; or the rows are a data set on the Hugging Face Hub. Each error names file and row.
"""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from memkit.errors import BadInput

__all__ = ["Record", "from_hub", "is_hub_id", "json_lines", "read", "read_text", "to_records"]

HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


@dataclass(frozen=True, slots=True)
class Record:
    """One row: `where` it stands, in words for messages, its `id`, and its `fields`."""

    where: str
    id: str
    fields: Mapping[str, Any]

    def texts(self, name: str) -> tuple[str, ...]:
        """The texts of a field: of a string, a list, or a list of lists, in their order.

        Stripped; blank ones are left out. Nothing where the field is absent or None.

        Raises `BadInput` if something else is among them.
        """
        return tuple(self._texts(name, self.fields.get(name)))

    def _texts(self, name: str, value: Any) -> Iterator[str]:
        if isinstance(value, str):
            if value.strip():
                yield value.strip()
        elif isinstance(value, list | tuple):
            for inner in value:
                yield from self._texts(name, inner)
        elif value is not None:
            raise BadInput(
                f"{self.where}: {name} holds {str(value)[:80]!r}; allowed: text, or lists of texts."
                " Correct the row."
            )

    def text(self, name: str) -> str:
        """The first text of a field.

        Raises `BadInput` if there is none.
        """
        if name not in self.fields:
            found = ", ".join(map(repr, self.fields)) or "none"
            raise BadInput(
                f"{self.where} has no {name!r}; its fields are {found}. Check that this file is "
                "the benchmark that was named, and that the row is whole."
            )
        texts = self.texts(name)
        if not texts:
            raise BadInput(
                f"{self.where}: {name} is {self.fields[name]!r}; allowed: text that is not empty. "
                "Correct the row, or take it out."
            )
        return texts[0]

    def inner(self, name: str) -> Record:
        """The object in a field; an empty one where the field is absent or None.

        Raises `BadInput` if it is none.
        """
        return self._inner(name, self.fields.get(name) or {})

    def items(self, name: str) -> list[Record]:
        """The objects in a list; none where the field is absent or None.

        Raises `BadInput` if it is no list of objects.
        """
        values = self.fields.get(name) or []
        if not isinstance(values, list | tuple):
            raise BadInput(
                f"{self.where}: {name} is {str(values)[:80]!r}; allowed: a list of objects. "
                "Correct the row."
            )
        return [self._inner(name, value) for value in values]

    def _inner(self, name: str, value: Any) -> Record:
        if not isinstance(value, Mapping):
            raise BadInput(
                f"{self.where}: {name} holds {str(value)[:80]!r}; allowed: an object. Correct the "
                "row."
            )
        return Record(f"{self.where}, {name}", self.id, value)


def read(
    name: str,
    path: str | os.PathLike[str] | None,
    split: str | None,
    *,
    hub: str | None = None,
    url: str = "",
    key: str | None = None,
) -> list[Record]:
    """The rows of a benchmark: of the file `path`, of the Hub id `path`, or of `hub` (None).

    `url` is where a file can be had if there is no `hub`; `key` as in `to_records`. `split` None
    takes all rows.

    Raises `BadInput` for a path that is needed and not given, for a file that cannot be read, is
    no JSON or has no rows, for a data set out of reach, and for a split of a file: it has none.
    """
    if path is None and hub is None:
        raise BadInput(
            f"{name} has path None; allowed: a file, or the id of a data set on the Hub. Download "
            f"{url} and name that file: load({name!r}, path=...)."
        )
    if path is None or is_hub_id(path):
        source = str(path or hub)
        return to_records(enumerate(from_hub(name, source, split), start=1), source, key)
    text = read_text(path, name)
    where = repr(str(path))
    if split is not None:
        raise BadInput(
            f"split is {split!r} for the file {where}; allowed: None, a file has no splits. Leave "
            "it out, or name another file."
        )
    return to_records(_json(text, where), where, key)


def to_records(
    numbered: Iterable[tuple[int, Any]], source: str, key: str | None = None
) -> list[Record]:
    """Numbered rows as records.

    The id is the field `key`, or the number where that is None or absent. The second row of an id
    gets "#2" behind it.

    Raises `BadInput` for a row that is no object, and if there is none.
    """
    records = []
    ids: Counter[str] = Counter()
    for number, row in numbered:
        where = f"{source}, row {number}"
        if not isinstance(row, Mapping):
            raise BadInput(
                f"{where} is {str(row)[:80]!r}; allowed: a JSON object. Check that this file is "
                "the benchmark that was named."
            )
        name = str(number if key is None else row.get(key, number))
        ids[name] += 1
        records.append(Record(where, name if ids[name] == 1 else f"{name}#{ids[name]}", row))
    if not records:
        raise BadInput(f"{source} has no rows; allowed: at least one. Check the file.")
    return records


def is_hub_id(path: str | os.PathLike[str]) -> bool:
    """Whether this is owner/name and no file: neither there, nor named like one."""
    name = str(path)
    file = Path(name).exists() or name.endswith((".csv", ".tsv", ".json", ".jsonl"))
    return not file and HUB_ID.fullmatch(name) is not None


def from_hub(
    name: str, source: str, split: str | None, /, **options: Any
) -> Iterator[Mapping[str, Any]]:
    """The rows of a data set on the Hub; `split` None takes all splits, one after the other.

    `options` go to `datasets.load_dataset`.

    Raises `BadInput` if it cannot be had.
    """
    import datasets

    try:
        found = datasets.load_dataset(source, split=split, **options)
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        raise BadInput(
            f"{name} cannot be read from the Hub as {source!r}, split {split!r} "
            f"({type(error).__name__}: {error}); allowed: a data set within reach. Check id, split "
            f"and network, or pass the path of a file: load({name!r}, path=...)."
        ) from error
    for rows in found.values() if isinstance(found, dict) else (found,):
        yield from rows


def read_text(path: str | os.PathLike[str], what: str) -> str:
    """The text of a file in UTF-8, without a byte order mark; `what` it holds, for messages.

    Raises `BadInput` for a folder, and for a file that is absent or in another encoding.
    """
    path = Path(path)
    if not path.is_file():
        state = "is a folder" if path.is_dir() else "does not exist"
        raise BadInput(
            f"{str(path)!r} {state}; allowed: a file with {what}, or the id of a data set on the "
            "Hub. Name the file."
        )
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(
            f"{str(path)!r} cannot be read ({error}); allowed: a file in UTF-8. Check it."
        ) from error


def json_lines(text: str, source: str, allowed: str) -> Iterator[tuple[int, Any]]:
    """Number of the line and value of each line that is not blank.

    Raises `BadInput` for a line that is no JSON; `allowed` is what the message allows.
    """
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            yield number, json.loads(line)
        except ValueError as error:
            raise BadInput(
                f"{source}, row {number} is no JSON ({error}); it begins with {line[:60]!r}. "
                f"Allowed: {allowed}."
            ) from error


def _json(text: str, source: str) -> Iterable[tuple[int, Any]]:
    """Numbered rows of a list, of a single object, or of JSON lines."""
    try:
        data = json.loads(text)
    except ValueError as error:
        if text.lstrip().startswith("["):
            raise BadInput(
                f"{source} is no JSON ({error}); allowed: a JSON list. It may be cut off: get the "
                "file again."
            ) from error
        return json_lines(text, source, "a JSON list of objects, or an object a line")
    return enumerate(data if isinstance(data, list) else [data], start=1)

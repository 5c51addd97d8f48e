"""Plain text to estimate on: the built-in sample, a local file, or a data set of the Hub."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from memkit.errors import BadInput, MemkitError
from memkit.files import sha256

__all__ = ["corpus_hash", "sample", "texts"]

FORMATS: Mapping[str, str] = {
    ".csv": "csv",
    ".json": "json",
    ".jsonl": "json",
    ".parquet": "parquet",
    ".txt": "text",
}  # suffix of a local file: its reader in `datasets`
SHORTEST = 40  # characters of a paragraph in the sample
_GAP = re.compile(r"\n\s*\n")
_CODE = re.compile("::=|>>>")
_MARKER = re.compile(r"^(\*|\d+\.|\[\d+\]) ")
_EMPHASIS = re.compile(r"\*{1,2}(\w+)\*{1,2}")


def sample() -> Iterator[str]:
    """Some 1,300 paragraphs of English (270 KB) that every Python carries; always in one order.

    It is the Python language reference as `help("topics")` shows it: paragraphs of at least
    40 characters that end as sentences do, each once, in the order of their topics' names, without
    grammar, dialogues, list markers and emphasis. The text depends on the version of Python.

    Good for trying things out offline. With a real model, estimate on natural text of many kinds
    instead ("wikimedia/wikipedia:20231101.en"), above all for figures to publish.
    """
    from pydoc_data.topics import topics

    seen: set[str] = set()
    for _, topic in sorted(topics.items()):
        for block in _GAP.split(topic):
            text = _EMPHASIS.sub(r"\1", _MARKER.sub("", " ".join(block.split())))
            prose = len(text) >= SHORTEST and text[-1] in ".:;!?)" and not _CODE.search(text)
            if prose and text not in seen:
                seen.add(text)
                yield text


def texts(corpus: str) -> Iterator[str]:
    """The texts of a corpus that are not blank, always in one order.

    "sample"   the built-in sample
    a file     .txt with a text a line; .jsonl, .json, .csv or .parquet with a column "text"
    a Hub id   "id" or "id:config", column "text" of the split "train" (of the first one where
               there is none), streamed: only what is read is downloaded

    Raises `BadInput` for a file or data set that cannot be read, or has no column "text".
    """
    if corpus == "sample":
        yield from sample()
        return
    try:
        for row in _rows(corpus):
            if "text" not in row:
                raise BadInput(
                    f"the corpus {corpus!r} has no column 'text'; its columns are "
                    f"{', '.join(map(repr, row)) or 'none'}. Rename the one that holds the text."
                )
            if row["text"] is not None and (text := str(row["text"])).strip():
                yield text
    except MemkitError:
        raise
    except Exception as error:  # whatever `datasets` and its readers raise
        what = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise BadInput(
            f"the corpus {corpus!r} cannot be read ({what}); allowed: 'sample', a file in UTF-8 "
            f"({', '.join(FORMATS)}) or a data set of the Hub, 'id' or 'id:config'. Correct the "
            "name or the file, or connect to the network."
        ) from error


def corpus_hash(corpus: str) -> str:
    """What tells one corpus from another: SHA-256 of the sample's text or the file's bytes.

    A data set of the Hub is known by its id and config alone; name one whose content is fixed (a
    dated config).
    """
    if corpus == "sample":
        return hashlib.sha256("\n".join(sample()).encode()).hexdigest()
    path = _file(corpus)
    return f"hub:{corpus}" if path is None else sha256(path)


def _rows(corpus: str) -> Iterator[Mapping[str, Any]]:
    """The rows of a file or a data set, streamed."""
    import datasets

    if path := _file(corpus):
        reader, files = FORMATS[path.suffix], {"train": str(path)}
        splits = datasets.load_dataset(reader, data_files=files, streaming=True)
    else:
        name, _, config = corpus.partition(":")
        splits = datasets.load_dataset(name, config or None, streaming=True)
    yield from splits["train" if "train" in splits else next(iter(splits))]


def _file(corpus: str) -> Path | None:
    """The local file of that name; None for what can only be an id of the Hub.

    Raises `BadInput` for a file that is not there or not of a known format, and for a folder.
    """
    path = Path(corpus).expanduser()
    local = path.suffix in FORMATS or path.exists() or corpus.startswith(("/", ".", "~"))
    if not local:
        return None
    if path.is_file() and path.suffix in FORMATS:
        return path
    what = "ends in something else" if path.is_file() else "is no file"
    raise BadInput(
        f"the corpus {corpus!r} {what}; allowed: 'sample', a file ending in {', '.join(FORMATS)}, "
        "or a data set of the Hub, 'id' or 'id:config'. Correct the path."
    )

"""`memkit index build` and `memkit index search`."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from memkit.cli.output import note, say, say_json
from memkit.errors import BadInput, IndexMismatch
from memkit.types import Hit

if TYPE_CHECKING:
    from memkit.retrieval.bm25 import BM25
    from memkit.retrieval.dense import Dense

__all__ = ["app", "open_index", "show"]

app = typer.Typer(help="Build and search indexes of passages.", no_args_is_help=True)
ENGINES = {"bm25": ("auto", "lucene", "bm25s"), "dense": ("auto", "exact", "faiss")}


class Kind(StrEnum):
    """Kinds of index."""

    bm25 = "bm25"
    dense = "dense"


@app.command()
def build(
    corpus: Annotated[Path, typer.Argument(help="Passages: .jsonl, .csv or .tsv with id, text.")],
    out: Annotated[Path, typer.Argument(help="The folder to make.")],
    kind: Annotated[Kind, typer.Option(help="What finds the passages.")] = Kind.bm25,
    engine: Annotated[
        str, typer.Option(help="bm25: auto, lucene, bm25s. dense: auto, exact, faiss.")
    ] = "auto",
    encoder: Annotated[
        str | None, typer.Option(help="dense: folder or Hub id of a sentence-transformers model.")
    ] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Replace an index.")] = False,
    on: Annotated[
        str, typer.Option(help="dense: where to encode: local, or ray (RAY_ADDRESS: a cluster).")
    ] = "local",
    workers: Annotated[
        int | None, typer.Option(help="ray: processes that encode; one a CPU unless given.")
    ] = None,
) -> None:
    """Index the passages of a file. A build that was broken off goes on where it stopped."""
    from memkit.benchmarks.corpus import read_corpus

    if engine not in ENGINES[kind]:
        raise BadInput(
            f"--engine is {engine!r}; allowed for {kind}: {', '.join(ENGINES[kind])}. Choose one."
        )
    if kind == Kind.bm25 and encoder is not None:
        raise BadInput(
            f"--encoder is {encoder!r}, and BM25 has none; allowed: --encoder with --kind dense."
        )
    if kind == Kind.bm25 and on != "local":
        raise BadInput(
            f"--on is {on!r}, and BM25 encodes nothing; allowed: --on with --kind dense."
        )
    passages = read_corpus(corpus)
    index: BM25 | Dense
    if kind == Kind.bm25:
        from memkit.retrieval.bm25 import BM25

        index = BM25.build(passages, out, engine=engine, replace=replace)  # type: ignore[arg-type]
        with index:
            note(f"indexed {len(index):,} passages in {out} ({index.engine})")
    else:
        from memkit.retrieval.dense import Dense
        from memkit.retrieval.encoders import PACKAGED

        index = Dense.build(
            passages,
            out,
            encoder=encoder or PACKAGED,
            engine=engine,  # type: ignore[arg-type]
            replace=replace,
            on=on,  # type: ignore[arg-type]
            workers=workers,
        )
        note(f"indexed {len(index):,} passages in {out} ({index.encoder.name})")


@app.command()
def search(
    folder: Annotated[Path, typer.Argument(help="An index.")],
    query: Annotated[str, typer.Argument(help="What to search for.")],
    k: Annotated[int, typer.Option("--k", "-k", help="How many passages.")] = 10,
    corpus: Annotated[
        Path | None, typer.Option(help="Refuse the index if it is not one of this file.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Find the passages that fit a query best."""
    hits = open_index(folder, corpus).search([query], k)[0]
    if as_json:
        say_json([asdict(hit) for hit in hits])
    else:
        show(hits)
        if not hits:
            note("nothing was found")


def open_index(folder: Path, corpus: Path | None = None) -> BM25 | Dense:
    """The index in a folder, of whatever kind it says it is, and of `corpus` if that is given.

    Raises `IndexMismatch`.
    """
    from memkit.benchmarks.corpus import read_corpus

    passages = None if corpus is None else read_corpus(corpus)
    try:
        kind = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))["kind"]
    except (OSError, ValueError, KeyError, TypeError):
        kind = "bm25"  # which says what is wrong, and opens Lucene indexes of others
    if kind == "bm25":
        from memkit.retrieval.bm25 import BM25

        return BM25.open(folder, passages)
    if kind == "dense":
        from memkit.retrieval.dense import Dense

        return Dense.open(folder, corpus=passages)
    raise IndexMismatch(
        f"{str(folder)!r} is an index of kind {kind!r}; allowed: {', '.join(Kind)}. Build one of "
        "these: memkit index build CORPUS FOLDER."
    )


def show(hits: Iterable[Hit]) -> None:
    """A line for rank, score, id and title, and the text below."""
    for hit in hits:
        title = f"  {hit.passage.title}" if hit.passage.title else ""
        say(f"{hit.rank:>3}  {hit.score:8.4f}  {hit.passage.id}{title}")
        say(f"     {' '.join(hit.passage.text.split())}")

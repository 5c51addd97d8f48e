"""`memkit index build` and `memkit index search`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from memkit.cli.output import note, say, say_json
from memkit.cli.targets import Target, open_index
from memkit.errors import BadInput
from memkit.types import Hit

__all__ = ["app", "show"]

app = typer.Typer(help="Build and search indexes of passages.", no_args_is_help=True)
PLACES = "a folder, milvus:ADDRESS#NAME or opensearch:ADDRESS#NAME"
ENGINES = {"bm25": ("auto", "lucene", "bm25s"), "dense": ("auto", "exact", "faiss")}


class Kind(StrEnum):
    """Kinds of index."""

    bm25 = "bm25"
    dense = "dense"


@app.command()
def build(
    corpus: Annotated[Path, typer.Argument(help="Passages: .jsonl, .csv or .tsv with id, text.")],
    out: Annotated[str, typer.Argument(help=f"What to make: {PLACES}.")],
    kind: Annotated[Kind, typer.Option(help="What finds the passages.")] = Kind.bm25,
    engine: Annotated[
        str, typer.Option(help="In a folder. bm25: auto, lucene, bm25s. dense: auto, exact, faiss.")
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

    target = Target.read(out)
    _check(target, kind, engine, encoder, on)
    passages = read_corpus(corpus)
    options: dict[str, Any] = {"replace": replace}
    if kind == Kind.dense:
        from memkit.retrieval.encoders import PACKAGED

        options["encoder"] = encoder or PACKAGED
    if target.store != "folder":
        store, user = target.client()
        options |= {"kind": kind.value, **user}
        index = store.build(passages, target.place, target.name, **options)
        note(f"indexed {len(index):,} passages in {target}")
    elif kind == Kind.bm25:
        from memkit.retrieval.bm25 import BM25

        with BM25.build(passages, out, engine=engine, **options) as terms:  # type: ignore[arg-type]
            note(f"indexed {len(terms):,} passages in {out} ({terms.engine})")
    else:
        from memkit.retrieval.dense import Dense

        options |= {"engine": engine, "on": on, "workers": workers}
        vectors = Dense.build(passages, out, **options)
        note(f"indexed {len(vectors):,} passages in {out} ({vectors.encoder.name})")


def _check(target: Target, kind: Kind, engine: str, encoder: str | None, on: str) -> None:
    """Raise `BadInput` for options that this kind of index, or its place, has not."""
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
    for name, value, usual in (("--engine", engine, "auto"), ("--on", on, "local")):
        if target.store != "folder" and value != usual:
            raise BadInput(
                f"{name} is {value!r} for {target}; allowed: {usual}, since that is for indexes in "
                "folders. Leave it out."
            )


@app.command()
def search(
    index: Annotated[str, typer.Argument(help=f"An index: {PLACES}.")],
    query: Annotated[str, typer.Argument(help="What to search for.")],
    k: Annotated[int, typer.Option("--k", "-k", help="How many passages.")] = 10,
    corpus: Annotated[
        Path | None, typer.Option(help="Refuse the index if it is not one of this file.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Find the passages that fit a query best."""
    hits = open_index(index, corpus).search([query], k)[0]
    if as_json:
        say_json([asdict(hit) for hit in hits])
    else:
        show(hits)
        if not hits:
            note("nothing was found")


def show(hits: Iterable[Hit]) -> None:
    """A line for rank, score, id and title, and the text below."""
    for hit in hits:
        title = f"  {hit.passage.title}" if hit.passage.title else ""
        say(f"{hit.rank:>3}  {hit.score:8.4f}  {hit.passage.id}{title}")
        say(f"     {' '.join(hit.passage.text.split())}")

"""Edits that hold: in the weights, in the prompt, in a store (see `memkit.protocols.holding`)."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import weakref
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from memkit.errors import FingerprintMismatch
from memkit.mentions import Mentions
from memkit.prompts import Template
from memkit.protocols.holding import FRAME, Asker, Held, InContext, Retrieval, Told, bare
from memkit.retrieval.base import Retriever
from memkit.types import EditReport, Fact, Passage

if TYPE_CHECKING:
    from memkit.editors.base import Editor
    from memkit.lm.model import LM
    from memkit.retrieval.encoders import Encoder

__all__ = ["held"]


def held(
    lm: LM,
    way: Editor | InContext | Retrieval,
    told: Sequence[Told],
    *,
    room: int,
    fit_on: int,
    shared: bool,
    check_bytes: bool,
) -> Held:
    """A way made ready for a model and all edits of a run.

    `room` are the tokens of an answer. `shared` says that a store holds all of `told` whatever
    holds; otherwise it holds what holds. `check_bytes` compares the weights' bytes after each edit.

    Raises `BadInput` for edits that cannot be written, `UnsupportedModel` for a model that an
    editor does not serve.
    """
    if isinstance(way, InContext):
        return _Prompted(lm, way, room)
    if isinstance(way, Retrieval):
        return _Searched(lm, way, room, tuple(told) if shared else None)
    return _Written.ready(lm, way, told, fit_on, check_bytes)


class _Written:
    """Edits in the weights, undone on leaving."""

    def __init__(
        self, lm: LM, editor: Editor, chosen: Mapping[str, str], sha256: str | None
    ) -> None:
        self.lm, self.editor, self.chosen, self.sha256 = lm, editor, chosen, sha256

    @classmethod
    def ready(
        cls, lm: LM, editor: Editor, told: Sequence[Told], fit_on: int, check_bytes: bool
    ) -> _Written:
        from memkit.editors.base import Edit  # loads torch, as the next ones do
        from memkit.editors.tokens import check_facts
        from memkit.lm.fingerprint import weights_hash

        for one in told:
            check_facts(lm, [one.fact])
        Edit(editor, lm)  # says so if the editor does not serve the model
        editor, chosen = editor.fitted(lm, [one.fact for one in told[:fit_on]])
        return cls(lm, editor, chosen, weights_hash(lm.model) if check_bytes else None)

    def __str__(self) -> str:
        return repr(self.editor)

    @contextlib.contextmanager
    def holding(self, told: Sequence[Told]) -> Iterator[Asker]:
        facts = list({(one.fact.text, one.fact.target): one.fact for one in told}.values())
        try:
            with self.editor.apply(self.lm, facts) as edit:
                self._note(edit.report)
                yield bare
        finally:
            self._check(facts[0])

    def _note(self, report: EditReport) -> None:
        self.chosen = {**report.chosen, **self.chosen}

    def _check(self, fact: Fact) -> None:
        """Raise `FingerprintMismatch` unless the weights have the bytes from before the run."""
        from memkit.lm.fingerprint import weights_hash

        found = self.sha256 and weights_hash(self.lm.model)
        if found != self.sha256:
            raise FingerprintMismatch(
                f"after the edit of {fact.text!r} by {self.editor!r} the weights' SHA-256 is "
                f"{found}, before it was {self.sha256}; allowed: the same bytes. Load the model "
                "again; the editor does not restore it."
            )


class _Prompted:
    """Edits before the query."""

    chosen: Mapping[str, str] = {}

    def __init__(self, lm: LM, way: InContext, room: int) -> None:
        self.lm, self.way, self.room = lm, way, room

    def __str__(self) -> str:
        return repr(self.way)

    @contextlib.contextmanager
    def holding(self, told: Sequence[Told]) -> Iterator[Asker]:
        texts = [one.statement if self.way.form == "statement" else _imagined(one) for one in told]
        passages = [Passage(str(n), text) for n, text in enumerate(dict.fromkeys(texts))]

        def ask(queries: Sequence[str], frames: Sequence[str] | None = None) -> list[str]:
            shown = [passages] * len(queries)
            return _fitted(self.lm, queries, frames, shown, self.way.separator, self.room)

        yield ask


class _Searched:
    """Edits in a store."""

    chosen: Mapping[str, str] = {}

    def __init__(self, lm: LM, way: Retrieval, room: int, told: Sequence[Told] | None) -> None:
        self.lm, self.way, self.room = lm, way, room
        self.encoder: Encoder | None = None
        self.store = None if told is None else self._made(told)

    def __str__(self) -> str:
        return repr(self.way)

    @contextlib.contextmanager
    def holding(self, told: Sequence[Told]) -> Iterator[Asker]:
        store = self.store or self._made(told)

        def ask(queries: Sequence[str], frames: Sequence[str] | None = None) -> list[str]:
            if not queries:
                return []
            hits = store.search(list(queries), self.way.k)
            shown = [
                [hit.passage for hit in own if not self.way.gate or _names(query, hit.passage)]
                for query, own in zip(queries, hits, strict=True)
            ]
            return _fitted(self.lm, queries, frames, shown, self.way.separator, self.room)

        yield ask

    def _made(self, told: Sequence[Told]) -> Retriever:
        """A retriever of the edits; those that are told alike are one passage."""
        by_subject: dict[str, list[str]] = {}
        for one in told:
            texts = by_subject.setdefault(one.fact.subject, [])
            if one.statement not in texts:
                texts.append(one.statement)
        if self.way.store == "definitions":
            from memkit.retrieval.definitions import Definitions

            return Definitions({subject: " ".join(texts) for subject, texts in by_subject.items()})
        pairs = [(subject, text) for subject, texts in by_subject.items() for text in texts]
        passages = [Passage(f"edit-{n}", text, subject) for n, (subject, text) in enumerate(pairs)]
        if callable(self.way.store):
            return self.way.store(passages)
        if self.way.store == "dense":
            return self._dense(passages)
        from memkit.retrieval.bm25 import BM25

        return BM25.build(passages, engine="bm25s")

    def _dense(self, passages: Sequence[Passage]) -> Retriever:
        """An index in a temporary folder that goes with it; the encoder is loaded once."""
        from memkit.retrieval.dense import Dense
        from memkit.retrieval.encoders import PACKAGED, load_encoder

        self.encoder = self.encoder or load_encoder(PACKAGED)
        folder = Path(tempfile.mkdtemp(prefix="memkit-edits-"))
        try:
            index = Dense.build(passages, folder / "index", encoder=self.encoder)
        except BaseException:
            shutil.rmtree(folder)
            raise
        weakref.finalize(index, shutil.rmtree, folder, ignore_errors=True)
        return index


def _fitted(
    lm: LM,
    queries: Sequence[str],
    frames: Sequence[str] | None,
    passages: Sequence[Sequence[Passage]],
    separator: str,
    room: int,
) -> list[str]:
    """Prompts with what is shown before each query, as far as it fits into the window."""
    alone = bare(queries, frames)
    made = []
    for whole, query, frame, shown in zip(
        alone, queries, frames or [FRAME] * len(queries), passages, strict=True
    ):
        template = Template(question=frame, separator=separator)
        prompt = template.fit(
            query,
            shown,
            count=lm.count_tokens,
            budget=lm.window - (room if lm.kind == "decoder" else 0),
            special=lm.tokenizer.all_special_tokens,
        )
        made.append(prompt.text if shown else whole)
    return made


def _names(query: str, passage: Passage) -> bool:
    """Whether a query names the subject that is the passage's title."""
    return passage.title is None or bool(Mentions([passage.title]).find(query))


def _imagined(told: Told) -> str:
    """The edit as a counterfactual premise, see `InContext`."""
    text = told.fact.text.strip()
    for verb in (" is", " are"):
        if text.endswith(verb) and told.statement.startswith(text):
            about = text.removesuffix(verb)
            about = about[:1].lower() + about[1:] if about.startswith("The ") else about
            return f"Imagine that {told.fact.target} would have been {about}."
    return f"Imagine that {told.statement}"

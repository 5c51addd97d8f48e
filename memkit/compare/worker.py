"""A worker: one loaded model, and all of its cells that come to it.

The model is loaded once. Each block of facts is written to the clean model and taken back by the
edit's handle; after a cell that wrote, the model's fingerprint has to be what it was.
"""

from __future__ import annotations

import contextlib
import dataclasses
import tempfile
from collections.abc import Collection, Hashable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from memkit.compare import routers
from memkit.compare.corpora import current, following
from memkit.compare.grid import Cell, Grid
from memkit.compare.memories import Memory, Wanted
from memkit.compare.records import AnswerRecord, EditRecord, Record
from memkit.compare.retrievers import Material
from memkit.compare.rows import Block, Row, Rows
from memkit.compare.scoring import scored
from memkit.editors.base import Edit, Editor
from memkit.editors.cost import measured
from memkit.errors import EditRejected, FingerprintMismatch
from memkit.lm.model import LM
from memkit.prompts import Template
from memkit.protocols.arms import outcomes
from memkit.qa import QA
from memkit.retrieval.base import Retriever
from memkit.routing.base import Router
from memkit.types import EditReport, Fact

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["CHUNK", "Worker"]

CHUNK = 64  # rows that are asked together, and lost together in a kill

T = TypeVar("T")


class Worker:
    """Runs cells of one model of a grid; leave its `with` block to let go of indexes."""

    def __init__(self, grid: Grid, model: str) -> None:
        self.grid = grid
        self.spec = grid.spec
        self.model = model
        self._lm: LM | None = None
        self._kept: dict[Hashable, Any] = {}
        self._scratch = tempfile.TemporaryDirectory(prefix="memkit-compare-")

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *error: object) -> None:
        self._kept.clear()
        self._lm = None
        self._scratch.cleanup()

    @property
    def lm(self) -> LM:
        """The model, loaded when it is first wanted."""
        if self._lm is None:
            wanted = self.spec.models[self.model]
            self._lm = LM.load(self.grid.folders[self.model], wanted.device, wanted.dtype)
            self._lm.fingerprint()  # what it is when it is clean
        return self._lm

    def run(self, cell: Cell, seen: Collection[str]) -> Iterator[list[Record]]:
        """The records of a cell that are not among `seen`, as they come.

        Raises whatever goes wrong; the model is then as it was, or loaded anew for the next cell.
        """
        memory, own = self.grid.memories[cell.memory], self.rows(cell)
        clean = self.lm.fingerprint() if memory.writes else ""
        for block in own.blocks(cell.count):
            names = {row.id for row in block.rows} | ({_edit_id(block)} if cell.count else set())
            if names <= set(seen):
                continue
            yield from self.block(cell, own, block, seen)
        if memory.writes and (now := self.lm.fingerprint()) != clean:
            self._lm = None
            self._kept.clear()
            raise FingerprintMismatch(
                f"{cell.name}: the model is {now} now and was {clean}; allowed: the same bytes. "
                "The editor's handle did not take back all that it did; the next cell loads the "
                "model anew."
            )

    def rows(self, cell: Cell) -> Rows:
        """The rows of the cell's benchmark and seed."""
        return self.grid.rows[cell.benchmark, cell.seed]

    def block(
        self, cell: Cell, own: Rows, block: Block, seen: Collection[str] = ()
    ) -> Iterator[list[Record]]:
        """Write a block's facts, ask its rows, take the facts back."""
        memory = self.grid.memories[cell.memory]
        qa = self.qa(memory, own)
        facts = [own.facts[number] for number in block.facts]
        with contextlib.ExitStack() as stack:
            if facts and memory.retriever is not None and memory.retriever.follows:
                retriever = stack.enter_context(self._following(memory.retriever, own, facts))
                qa = dataclasses.replace(qa, retriever=retriever)
            if facts:
                written = self._written(stack, cell, memory, own, block, facts)
                yield [written]
            for rows in _chunks(block.rows):
                if not {row.id for row in rows} <= set(seen):
                    yield [*self.asked(cell, qa, own, block, rows)]

    def asked(
        self, cell: Cell, qa: QA, own: Rows, block: Block, rows: Sequence[Row]
    ) -> list[AnswerRecord]:
        """Ask rows of one form."""
        template = self.spec.template
        if rows[0].cloze:
            template = Template("{question}", template.passage, template.separator)
        with measured(self.lm.device) as cost:
            answers = dataclasses.replace(qa, template=template).ask([row.question for row in rows])
        facts = [None if row.fact is None else _short(own.facts[row.fact]) for row in rows]
        return scored(
            self.lm,
            cell,
            block,
            rows,
            answers,
            facts,
            peak_bytes=cost.peak_bytes,
            batch_size=self.spec.batch_size,
        )

    def _written(
        self,
        stack: contextlib.ExitStack,
        cell: Cell,
        memory: Memory,
        own: Rows,
        block: Block,
        facts: Sequence[Fact],
    ) -> EditRecord:
        """Write facts; they stay until the stack is left."""
        names = tuple(fact.id or str(n) for n, fact in zip(block.facts, facts, strict=True))
        if memory.editor is None:
            return EditRecord(
                cell.id, _edit_id(block), block.number, "text", names, (True,) * len(facts),
                (None,) * len(facts), (), {}, (), 0.0, 0, 0,
            )  # fmt: skip
        editor, chosen = self.fitted(memory, own)
        edit, rejected = _apply(stack, editor, self.lm, facts, cell.schedule)
        report = edit.report if edit is not None else EditReport(repr(editor))
        learnt = iter(report.facts)
        return EditRecord(
            cell=cell.id,
            id=_edit_id(block),
            block=block.number,
            editor=report.editor,
            facts=names,
            learnt=tuple(why is None and next(learnt).learnt for why in rejected),
            rejected=rejected,
            warnings=report.warnings,
            chosen={**report.chosen, **chosen},
            parameters=report.parameters,
            seconds=report.seconds,
            peak_bytes=report.peak_bytes,
            stored_bytes=report.stored_bytes,
        )

    def fitted(self, memory: Memory, own: Rows) -> tuple[Editor, dict[str, str]]:
        """The editor with what it chooses for this model, chosen once for a benchmark and seed."""
        assert memory.editor is not None
        editor = memory.editor
        if editor.seed == 0:
            editor = dataclasses.replace(editor, seed=own.seed)
        key = ("editor", memory.editor_name, own.sha256)
        found: tuple[Editor, dict[str, str]] = self._keep(
            key, lambda: editor.fitted(self.lm, own.facts[:8])
        )
        return found

    def qa(self, memory: Memory, own: Rows) -> QA:
        """The memory's QA on the unedited model, its router fitted."""
        found = memory.retriever
        retriever = None if found is None else self._retriever(found, own)
        qa = QA(
            self.lm,
            retriever,
            template=self.spec.template,
            k=1 if found is None else found.spec.k,
            max_new_tokens=self.spec.max_new_tokens,
            batch_size=self.spec.batch_size,
        )
        if memory.router_name is None or found is None:
            return qa
        name = memory.router_name
        key = ("router", name, found.name, own.sha256)
        return dataclasses.replace(qa, router=self._keep(key, lambda: self._router(name, qa, own)))

    def _router(self, name: str, qa: QA, own: Rows) -> Router:
        """A router, fitted on questions about other subjects on the unedited model."""
        router: Any = routers.router(self.spec, name, name)
        if not hasattr(router, "fit"):
            chosen: Router = router
            return chosen
        questions = list(own.fit)
        alone = dataclasses.replace(qa, retriever=None)
        seen = qa.signals(questions, routers.signals(self.spec, name))
        fitted: Router = router.fit(outcomes(alone.ask(questions), qa.ask(questions), signals=seen))
        return fitted

    def _retriever(self, wanted: Wanted, own: Rows) -> Retriever:
        """A retriever, made once for a corpus (or for rows, where it is drawn for these)."""
        about = own.sha256 if wanted.drawn else own.corpus_sha256
        key = ("retriever", wanted.name, wanted.spec.corpus, about)
        found: Retriever = self._keep(
            key, lambda: wanted.settings.build(self._material(wanted, own))
        )
        return found

    def _material(self, wanted: Wanted, own: Rows) -> Material:
        inside = {one.name: one for one in wanted.inside}
        folder = Path(self._scratch.name)
        return Material(
            own, self.lm, self.spec.place, folder, lambda name: self._retriever(inside[name], own)
        )

    @contextlib.contextmanager
    def _following(self, wanted: Wanted, own: Rows, facts: Sequence[Fact]) -> Iterator[Retriever]:
        """The retriever over a corpus that says the facts, within the block."""
        after = current(own, facts)
        with contextlib.ExitStack() as stack:
            if wanted.inside:
                for one in wanted.inside:
                    stack.enter_context(self._following(one, own, facts))
                yield self._retriever(wanted, own)
            elif hasattr(retriever := self._retriever(wanted, own), "replace"):
                stack.enter_context(following(retriever, own, after))
                yield retriever
            else:
                yield wanted.settings.build(self._material(wanted, after))

    def _keep(self, key: Hashable, make: Callable[[], T]) -> T:
        if key not in self._kept:
            self._kept[key] = make()
        value: T = self._kept[key]
        return value


def _apply(
    stack: contextlib.ExitStack, editor: Editor, lm: LM, facts: Sequence[Fact], schedule: str
) -> tuple[Edit | None, tuple[str | None, ...]]:
    """Write facts at once or one after the other; the handle, and for each fact why it was not."""
    parts = [[fact] for fact in facts] if schedule == "sequential" else [list(facts)]
    edit: Edit | None = None
    rejected: list[str | None] = []
    for part in parts:
        try:
            if edit is None:
                edit = stack.enter_context(editor.apply(lm, part))
            else:
                edit.add(part)
            rejected += [None] * len(part)
        except EditRejected as error:
            rejected += [str(error)] * len(part)
    return edit, tuple(rejected)


def _short(fact: Fact) -> Fact:
    """The fact without its probes, which are rows of their own."""
    return Fact(fact.subject, fact.prompt, fact.target, fact.relation, fact.previous, id=fact.id)


def _chunks(rows: Sequence[Row]) -> Iterator[list[Row]]:
    """The rows by form, in chunks that depend on the rows alone."""
    for form in (False, True):
        some = [row for row in rows if row.cloze == form]
        yield from (some[start : start + CHUNK] for start in range(0, len(some), CHUNK))


def _edit_id(block: Block) -> str:
    return f"edit/{block.number}"

"""The prices of editing and retrieving, measured.

All times are of whole calls, one query and one fact after the other: retrieving has its search in
it, an edit what its guards and report take. What is written into an index is taken out
again, and the model is afterwards as it was.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from memkit.errors import BadInput, EditRejected
from memkit.prompts import Template
from memkit.protocols.cost_formulas import Prices, Query
from memkit.qa import QA
from memkit.types import Fact, Passage, Question

if TYPE_CHECKING:
    from memkit.editors.base import Edit, Editor
    from memkit.lm.model import LM
    from memkit.retrieval.base import Index

__all__ = [
    "Clock",
    "added",
    "checked",
    "desks",
    "folder_bytes",
    "grown",
    "kept_bytes",
    "measure",
    "opened",
    "timed",
    "write",
]

Clock = Callable[[], float]

FIT_ON = 8  # facts that the editor is fitted on
MARK = "memkit-cost-"  # ids of the passages that are made of facts


def measure(
    lm: LM,
    editor: Editor,
    index: Index,
    facts: Sequence[Fact],
    questions: Sequence[Question],
    *,
    passages: Sequence[Passage] | None = None,
    template: Template | None = None,
    k: int = 1,
    max_new_tokens: int = 16,
    clock: Clock = time.perf_counter,
) -> Prices:
    """The prices on this machine: of the facts written one by one, and of the questions asked.

    What is None in the editor is chosen before anything is timed. The first fact's edit has what
    the editor computes once (precompute); the others' mean is an edit's price. Bytes of an edit are
    those that `Edit.save` writes of tensors, of a passage the growth of the index's folder, or its
    text where the index has none. `passages` are one a fact, under ids that are not in the index;
    None is a passage of the fact's prompt and target. `template`, `k` and `max_new_tokens` are
    those of `QA`. `clock` gives seconds: `time.process_time` leaves out what other processes take.

    Raises `BadInput` for fewer than two facts, no questions, or passages that are not as many as
    facts or are in the index; `EditRejected` if no edit passed the guards.
    """
    facts, texts = checked(facts, passages)
    if len(facts) < 2 or not questions:
        raise BadInput(
            f"measure got {len(facts)} facts and {len(questions)} questions; allowed: at least two "
            "facts (the first one's edit has what is computed once) and one question. Give more."
        )
    bare, with_text = desks(lm, index, template, k, max_new_tokens)
    asked = [_mean_query(qa, questions, clock) for qa in (bare, with_text)]
    with opened(lm, editor, facts) as edit:
        spent, kept = [], []
        for fact in facts:
            spent.append(timed(clock, write, edit, fact))
            kept.append(kept_bytes(edit))
        if not edit.steps:
            raise EditRejected(
                f"{type(editor).__name__} got none of {len(facts)} facts past its guards; allowed: "
                "at least one. Choose another editor, or on_guard='warn'."
            )
        edited = _mean_query(bare, questions, clock)
    each, more = sum(spent[1:]) / (len(facts) - 1), (kept[-1] - kept[0]) / (len(facts) - 1)
    seconds, size = _updates(index, texts, clock)
    return Prices(
        edit_seconds=each,
        edit_bytes=max(0.0, more),
        update_seconds=seconds,
        update_bytes=size,
        bare=asked[0],
        retrieved=asked[1],
        edited=edited,
        precompute_seconds=max(0.0, spent[0] - each),
        precompute_bytes=max(0.0, kept[0] - more),
    )


def checked(
    facts: Sequence[Fact], passages: Sequence[Passage] | None
) -> tuple[list[Fact], list[Passage]]:
    """Facts, and a passage for each."""
    facts = list(facts)
    if passages is None:
        made = enumerate(f"{fact.text} {fact.target}." for fact in facts)
        passages = [Passage(f"{MARK}{n}", text) for n, text in made]
    if len(passages) != len(facts):
        raise BadInput(
            f"{len(passages)} passages are given for {len(facts)} facts; allowed: one for each. "
            "Give as many, or None."
        )
    return facts, list(passages)


def desks(
    lm: LM, index: Index, template: Template | None, k: int, max_new_tokens: int
) -> tuple[QA, QA]:
    """Who answers bare, and who with text."""
    how = {"template": template or Template(), "k": k, "max_new_tokens": max_new_tokens}
    return QA(lm, **how), QA(lm, index, **how)  # type: ignore[arg-type]


def _mean_query(qa: QA, questions: Sequence[Question], clock: Clock) -> Query:
    """The mean price of the questions, asked one by one; the first is asked before, unmeasured."""
    qa.ask(questions[0])
    tokens = 0
    start = clock()
    for question in questions:
        tokens += qa.ask(question).prompt.tokens
    seconds = clock() - start
    return Query(tokens / len(questions), 1000 * seconds / len(questions))


@contextlib.contextmanager
def opened(lm: LM, editor: Editor, facts: Sequence[Fact]) -> Iterator[Edit]:
    """A handle of the editor fitted to the first facts, which is closed at the end."""
    from memkit.editors.base import Edit  # loads torch

    edit = Edit(editor.fitted(lm, facts[:FIT_ON])[0], lm)
    try:
        yield edit
    finally:
        edit.rollback()


def write(edit: Edit, fact: Fact) -> None:
    """An edit; one that a guard refuses took its time, too."""
    with contextlib.suppress(EditRejected):
        edit.add([fact])


def kept_bytes(edit: Edit) -> float:
    """Bytes of the tensors that saving the edit writes: of dense weights the newest."""
    from memkit.editors.steps import Dense, stored_bytes

    dense: dict[str, int] = {}
    total = 0
    for step in edit.steps:
        for name, row in step.changes.items():
            for change in row:
                if isinstance(change, Dense):
                    dense[name] = stored_bytes(change)
                else:
                    total += stored_bytes(change)
    whole = edit.adaptor is not None and edit.adaptor.whole
    states = [step.state for step in edit.steps]
    held = [tensor for state in (states[-1:] if whole else states) for tensor in state.values()]
    return float(total + sum(dense.values()) + sum(tensor.nbytes for tensor in held))


def _updates(index: Index, passages: Sequence[Passage], clock: Clock) -> tuple[float, float]:
    """Seconds and bytes of adding a passage: the mean."""
    before = folder_bytes(index)
    with added(index) as add:
        seconds = sum(timed(clock, add, p) for p in passages)
        size = grown(index, before, passages)
    return seconds / len(passages), size / len(passages)


@contextlib.contextmanager
def added(index: Index) -> Iterator[Callable[[Passage], None]]:
    """What adds passages, which are taken out again at the end."""
    there: list[str] = []

    def add(passage: Passage) -> None:
        index.add([passage])
        there.append(passage.id)

    try:
        yield add
    finally:
        if there:
            index.remove(there)


def grown(index: Index, before: int | None, passages: Sequence[Passage]) -> float:
    """Bytes that the passages take in the index."""
    after = folder_bytes(index)
    if before is None or after is None:
        return float(sum(len(passage.contents.encode()) for passage in passages))
    return float(max(0, after - before))


def folder_bytes(index: Index) -> int | None:
    """Bytes of the index's folder; None where it has none."""
    path = getattr(index, "path", None)
    if not isinstance(path, Path) or not path.is_dir():
        return None
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


def timed(clock: Clock, work: Callable[..., object], *given: object) -> float:
    """Seconds that the call takes."""
    start = clock()
    work(*given)
    return clock() - start

"""Cases that are told to a model in several ways, and what it then answers: the arms of a table.

    unedited        the bare questions
    <editor>        after the case's facts were written, one after the other on one handle, which is
                    rolled back before the next case comes
    in the prompt   the case's own passages before every question
    retrieval       what a retriever finds for each question

What `memkit.protocols` unstructured, temporal, events and longform share.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from memkit.errors import BadInput, EditRejected
from memkit.lm.checks import check_count, check_stops
from memkit.progress import track
from memkit.prompts import Template
from memkit.types import Fact, Passage

if TYPE_CHECKING:
    from memkit.editors.base import Editor
    from memkit.lm.model import LM
    from memkit.retrieval.base import Retriever

__all__ = ["PROMPT", "RETRIEVAL", "UNEDITED", "Ask", "Heard", "Speaker", "Told", "edited", "hear"]

UNEDITED, PROMPT, RETRIEVAL = "unedited", "in the prompt", "retrieval"
FIT_ON = 8  # facts that editors are fitted on


@dataclass(frozen=True, slots=True)
class Ask:
    """A question that is answered freely, or by the likeliest of its `options`."""

    text: str
    options: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Told:
    """One case: facts for editors, passages for prompts, and what is asked."""

    facts: tuple[Fact, ...]
    passages: tuple[Passage, ...]
    asks: tuple[Ask, ...]


@dataclass(frozen=True, slots=True)
class Heard:
    """What one arm answered: for each case the answers to its questions, and refused edits."""

    answers: tuple[tuple[str, ...], ...]
    rejected: int = 0


@dataclass(frozen=True, slots=True)
class Speaker:
    """A model as it is asked: the template, and where an answer ends.

    Raises `BadInput` for a value that is not allowed.
    """

    lm: LM
    template: Template = field(default_factory=Template)
    max_new_tokens: int = 64
    stop: tuple[str, ...] = ("\n",)
    batch_size: int = 32

    def __post_init__(self) -> None:
        """Check the values."""
        check_count("max_new_tokens", self.max_new_tokens)
        check_stops(self.stop)

    def say(
        self, asks: Sequence[Ask], passages: Sequence[Sequence[Passage]] | None = None
    ) -> tuple[str, ...]:
        """An answer to each question, with the passages for each before it."""
        given = passages or [()] * len(asks)
        prompts = [self._prompt(ask, own) for ask, own in zip(asks, given, strict=True)]
        answers = [""] * len(asks)
        free = [n for n, ask in enumerate(asks) if not ask.options]
        said = self.lm.generate(
            [prompts[n] for n in free], self.max_new_tokens, self.stop, self.batch_size
        )
        for n, text in zip(free, said, strict=True):
            answers[n] = text.strip()
        pairs = [(n, option) for n, ask in enumerate(asks) for option in ask.options]
        found = self.lm.logprob(
            [prompts[n] for n, _ in pairs],
            [self.lm.codec.continuation(prompts[n], option) for n, option in pairs],
            self.batch_size,
        )
        best: dict[int, float] = {}
        for (n, option), score in zip(pairs, found, strict=True):
            if n not in best or score.total > best[n]:
                best[n], answers[n] = score.total, option
        return tuple(answers)

    def as_asked(self, fact: Fact) -> Fact:
        """A fact worded as it is asked, for editors that hold to the letter of a prompt."""
        prompt = self.template.render(fact.text)
        subject = fact.subject if fact.subject in prompt else prompt
        return replace(fact, prompt=prompt, subject=subject)

    def _prompt(self, ask: Ask, passages: Sequence[Passage]) -> str:
        return self.template.fit(
            ask.text,
            passages,
            count=self.lm.count_tokens,
            budget=self.lm.window - self.max_new_tokens,
            special=self.lm.tokenizer.all_special_tokens,
        ).text


def hear(
    speaker: Speaker,
    editors: Editor | Mapping[str, Editor],
    cases: Sequence[Told],
    retriever: Retriever | None,
    k: int,
) -> dict[str, Heard]:
    """What each arm answers; the model is afterwards as it was.

    Raises `BadInput` for no cases, an editor under the name of another arm, and for facts that
    cannot be written; `UnsupportedModel` for a model that an editor does not serve.
    """
    if not cases:
        raise BadInput("there are no cases; allowed: at least one. Load some.")
    check_count("k", k)
    named = dict(editors) if isinstance(editors, Mapping) else {type(editors).__name__: editors}
    for name in (UNEDITED, PROMPT, RETRIEVAL):
        if name in named:
            raise BadInput(
                f"an editor is named {name!r}, as another arm; allowed: other names. Rename it."
            )
    heard = {UNEDITED: Heard(tuple(speaker.say(case.asks) for case in cases))}
    for name, editor in named.items():
        heard[name] = edited(speaker, editor, cases, name)
    given = ([case.passages] * len(case.asks) for case in cases)
    pairs = zip(cases, given, strict=True)
    heard[PROMPT] = Heard(tuple(speaker.say(case.asks, own) for case, own in pairs))
    if retriever is not None:
        found = []
        for case in cases:
            hits = retriever.search([ask.text for ask in case.asks], k)
            passages = [[hit.passage for hit in row] for row in hits]
            found.append(speaker.say(case.asks, passages))
        heard[RETRIEVAL] = Heard(tuple(found))
    return heard


def edited(speaker: Speaker, editor: Editor, cases: Sequence[Told], name: str) -> Heard:
    """Every case after its facts were written; of facts that a guard refuses, without them."""
    from memkit.editors.base import Edit  # loads torch

    first = [fact for case in cases for fact in case.facts][:FIT_ON]
    Edit(editor, speaker.lm)  # says so if the editor does not serve the model
    editor, _ = editor.fitted(speaker.lm, first)
    answers, rejected = [], 0
    for case in track(cases, name):
        edit = Edit(editor, speaker.lm)
        try:
            for fact in case.facts:
                try:
                    edit.add([fact])
                except EditRejected:
                    rejected += 1
            answers.append(speaker.say(case.asks))
        finally:
            edit.rollback()
    return Heard(tuple(answers), rejected)

"""Asking as Mallen et al. did (ACL 2023, arXiv:2212.10511, section 4 and its code), and our way.

    published   15 shots, drawn anew for each question: one for each of PopQA's 15 other relations,
                out of `pool` (all of PopQA there, else the questions that are asked), answer = the
                first accepted one, the row's object; shuffled;
                top-1 passage, without one in the shots; greedy, 15 new tokens, to the first line
                break; score with `popqa_substring`. With fewer relations as many shots from each of
                the others as make up `shots` at most
    matched     the same shots for every question and on every arm, one from each relation in turn,
                out of questions that are not asked; score with `contains`, `exact_match`,
                `token_f1`

Both give the arms that `memkit.protocols.popularity` scores; `PUBLISHED` and `MATCHED` are its
arguments that belong to them. `PopularityRouter(rule="binned", edges_from="all")`, fitted on
`outcomes` of the arms, has in `estimate_` the paper's figure over 100 splits.

Departures from the paper's code (AlexTMallen/adaptive-retrieval):
- A question's shots depend on the seed and the question alone. There they are drawn within the
  loop, so that resuming and running in parallel change them.
- A prompt that is too long loses passage text, not shots from its left end.
- An answer that begins with two line breaks is empty; there what stands behind them counts.
- Few relations: there `shots // 15` from each template, which is none for fewer than 15 shots.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from memkit.errors import BadInput
from memkit.metrics import contains, popqa_substring
from memkit.prompts import Template
from memkit.qa import QA
from memkit.routing.popularity import PopularityRouter
from memkit.types import Answer, Passage, Question

if TYPE_CHECKING:
    from memkit.lm.model import LM
    from memkit.retrieval.base import Retriever

__all__ = ["MATCHED", "PUBLISHED", "clipped", "matched", "published", "published_shots"]

CLOSED, RETRIEVED = "closed book", "retrieval"
ARMS = {"weights": CLOSED, "retrieval": RETRIEVED}
PUBLISHED: Mapping[str, Any] = MappingProxyType(
    {**ARMS, "metric": popqa_substring, "router": PopularityRouter(rule="binned", splits=0)}
)
MATCHED: Mapping[str, Any] = MappingProxyType({**ARMS, "metric": contains})


def published(
    lm: LM,
    questions: Sequence[Question],
    retriever: Retriever | None = None,
    *,
    pool: Sequence[Question] | None = None,
    given: Sequence[Sequence[Passage]] | None = None,
    shots: int = 15,
    seed: int = 633,
    max_new_tokens: int = 15,
    batch_size: int = 32,
) -> dict[str, list[Answer]]:
    """The answers of the paper's protocol: closed book, and with the top passage.

    The passage is the retriever's first, or the first of those `given` for each question
    (`clipped` cuts Contriever's as upstream does). Shots come from `pool`, by default the questions
    themselves: give it all of PopQA where only some are asked, as upstream does. `shots` 0 is the
    paper's setting for GPT-3.

    Raises `BadInput` without retriever and passages, for questions without relation or answers,
    and if there are shots to be drawn and all questions are of one relation.
    """
    template = published_shots(questions if pool is None else pool, shots, seed)
    return _arms(lm, questions, retriever, given, template, max_new_tokens, batch_size)


def matched(
    lm: LM,
    questions: Sequence[Question],
    retriever: Retriever | None = None,
    *,
    pool: Sequence[Question],
    given: Sequence[Sequence[Passage]] | None = None,
    shots: int = 15,
    seed: int = 0,
    max_new_tokens: int = 15,
    batch_size: int = 32,
) -> dict[str, list[Answer]]:
    """The answers with the same shots everywhere, out of `pool`: questions that are not asked.

    Raises `BadInput` as `published`, and if fewer than `shots` questions of the pool are about
    other subjects than those asked.
    """
    asked = {_subject(question) for question in questions}
    free = [q for q in pool if _subject(q) not in asked and q.answers]
    if len(free) < shots:
        raise BadInput(
            f"the pool has {len(free)} questions about subjects that are not asked about; allowed: "
            f"at least {shots}, one for each shot. Hold more questions back."
        )
    random.Random(seed).shuffle(free)
    turns: dict[str | None, int] = {}
    ranked = []
    for place, question in enumerate(free):  # one from each relation in turn
        turn = turns[question.relation] = turns.get(question.relation, -1) + 1
        ranked.append((turn, place, question))
    chosen = [q for _, _, q in sorted(ranked, key=lambda row: row[:2])[:shots]]
    template = Template(shots=tuple((q.text, q.answers[0]) for q in chosen))
    return _arms(lm, questions, retriever, given, template, max_new_tokens, batch_size)


def published_shots(
    questions: Sequence[Question], shots: int = 15, seed: int = 633
) -> Callable[[Question], Template]:
    """Each question's template with its own shots, from the other relations of `questions`.

    Raises as `published`.
    """
    by_relation: dict[str, list[tuple[str, str]]] = {}
    for question in questions:
        if question.relation is None or not question.answers:
            raise BadInput(
                f"the question {question.text!r} has no relation or no answers; allowed: both, "
                "since shots come from the other relations. Leave it out, or ask `matched`."
            )
        by_relation.setdefault(question.relation, []).append((question.text, question.answers[0]))
    each = shots // max(1, len(by_relation) - 1)
    if shots and (len(by_relation) < 2 or not each):
        raise BadInput(
            f"{shots} shots from {len(by_relation) - 1} other relations are {each} from each; "
            "allowed: at least one from each. Ask for more shots, or questions of more relations."
        )

    def template(question: Question) -> Template:
        digest = hashlib.sha256(f"{seed}\0{question.id}\0{question.text}".encode()).digest()
        rng = random.Random(int.from_bytes(digest[:8]))
        drawn = [
            shot
            for relation, rows in sorted(by_relation.items())
            if relation != question.relation
            for shot in rng.sample(rows, min(each, len(rows)))
        ]
        rng.shuffle(drawn)
        return Template(shots=tuple(drawn))

    return template


def clipped(passage: Passage) -> Passage:
    """The passage up to its last full stop before a blank, as upstream cuts Contriever's.

    Of a passage without one the full stop alone is left, there as here (1 of PopQA's first 300).
    """
    head, _, _ = passage.text.rpartition(". ")
    return Passage(passage.id, f"{head}.", passage.title)


def _arms(
    lm: LM,
    questions: Sequence[Question],
    retriever: Retriever | None,
    given: Sequence[Sequence[Passage]] | None,
    template: Template | Callable[[Question], Template],
    max_new_tokens: int,
    batch_size: int,
) -> dict[str, list[Answer]]:
    if retriever is None and given is None:
        raise BadInput(
            "there is neither a retriever nor passages; allowed: one of the two. Pass an index, or "
            "given=[[passage], ...] with the first passage of each question."
        )
    qa = QA(lm, None, None, template, 1, max_new_tokens, batch_size)
    fed = QA(lm, retriever, None, template, 1, max_new_tokens, batch_size)
    first = None if given is None else [list(passages[:1]) for passages in given]
    return {CLOSED: qa.ask(list(questions)), RETRIEVED: fed.ask(list(questions), given=first)}


def _subject(question: Question) -> str:
    return question.subject or question.text

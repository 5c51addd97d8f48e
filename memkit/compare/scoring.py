"""From answers to records: what counts of an answer, and its scores.

Free generation is the main score. Teacher forcing stands beside it, as "forced_tokens": the share
of the canonical answer's tokens that are the model's first choice, after the very prompt that was
answered and the tokens before. It flatters, since it gives content and length away; the gap between
the two is what it hides (Yang et al., ACL 2025, arXiv:2502.11177).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from memkit.compare.grid import Cell
from memkit.compare.records import AnswerRecord
from memkit.compare.rows import Block, Row
from memkit.errors import BadInput
from memkit.metrics import contains, exact_match, token_f1
from memkit.protocols.editing_probes import first_answer
from memkit.types import Answer, Fact

if TYPE_CHECKING:
    from memkit.lm.model import LM

__all__ = ["FORCED", "scored"]

STOP = ("\n", ".")  # where the answer to a prompt ends, as in `memkit.protocols.editing`
METRICS = {"exact_match": exact_match, "contains": contains, "token_f1": token_f1}
FORCED = "forced_tokens"


def scored(
    lm: LM,
    cell: Cell,
    block: Block,
    rows: Sequence[Row],
    answers: Sequence[Answer],
    facts: Sequence[Fact | None],
    *,
    peak_bytes: int,
    batch_size: int,
) -> list[AnswerRecord]:
    """The records of rows that were answered together, by the model as it is now.

    Raises `BadInput` for a row without accepted answers.
    """
    forced = _forced(lm, rows, answers, batch_size)
    made = []
    for place, (row, answer, fact) in enumerate(zip(rows, answers, facts, strict=True)):
        accepted = row.question.answers
        if not accepted:
            raise BadInput(
                f"the question {row.question.text!r} has no accepted answers; allowed: at least "
                "one, to score with. Leave it out."
            )
        said = first_answer(answer.text, STOP, accepted) if row.cloze else answer.text
        metrics = {name: float(rule(said, accepted)) for name, rule in METRICS.items()}
        if place in forced:
            metrics[FORCED] = forced[place]
        made.append(
            AnswerRecord(
                cell.id, row.id, row.role, block.number, answer, said, metrics, fact, peak_bytes
            )
        )
    return made


def _forced(
    lm: LM, rows: Sequence[Row], answers: Sequence[Answer], batch_size: int
) -> dict[int, float]:
    """By place, the score by teacher forcing; without those who abstained or have no room."""
    prompts, targets, places = [], [], []
    for place, (row, answer) in enumerate(zip(rows, answers, strict=True)):
        prompt = answer.prompt.text
        if not prompt or not row.question.answers:
            continue
        target = lm.codec.continuation(prompt, row.question.answers[0])
        if answer.prompt.tokens + lm.count_tokens(target) <= lm.window:
            prompts.append(prompt)
            targets.append(target)
            places.append(place)
    found = lm.logprob(prompts, targets, batch_size) if prompts else []
    return {
        place: sum(one.argmax) / len(one.argmax) for place, one in zip(places, found, strict=True)
    }

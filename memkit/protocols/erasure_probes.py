"""What the erasure protocol asks about a fact that is to go, and what it makes of the answers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from memkit.metrics import contains
from memkit.protocols.editing_probes import Interview, Probe
from memkit.types import Fact

__all__ = [
    "FORGET",
    "Answers",
    "Verdict",
    "ask",
    "fact_probes",
    "forgetting",
    "others",
    "verdict",
]

Verdict = Literal["not known", "kept", "suppressed", "erased"]
STATEMENTS = 2  # about the same subject, before the prompt

# score: the kind of probe whose answer is to go
FORGET: Mapping[str, str] = {
    "forgotten": "own",
    "paraphrase_forgotten": "paraphrase",
    "context_forgotten": "context",
    "indirect_forgotten": "indirect",
    "choice_forgotten": "choice",
    "relearnt_forgotten": "relearnt",
}
KINDS = {"reliability": "own", "generalisation": "paraphrase", "portability": "indirect"}


@dataclass(frozen=True, slots=True)
class Answers:
    """Of each probe of a fact its kind, the prompt, what was answered, and if it was the answer."""

    kinds: tuple[str, ...]
    prompts: tuple[str, ...]
    texts: tuple[str, ...]
    right: tuple[bool, ...]

    def and_also(self, kind: str, prompt: str, text: str, right: bool) -> Answers:
        """These and one more."""
        return Answers(
            (*self.kinds, kind),
            (*self.prompts, prompt),
            (*self.texts, text),
            (*self.right, right),
        )


def fact_probes(interview: Interview, fact: Fact) -> list[tuple[str, Probe]]:
    """Kind and probe: "own", "paraphrase", "indirect", "neighbour" and "context".

    "context" is the own prompt after statements about the same subject, from its locality. What
    has its answer in its own words is left out: to say it again takes no knowledge.
    """
    found = [(KINDS.get(p.kind, "neighbour"), p) for p in interview.probes(fact)]
    told = [(prompt, answer) for prompt, answer in fact.locality if fact.subject in prompt]
    if told:
        before = "".join(f"{prompt} {answer}.\n" for prompt, answer in told[:STATEMENTS])
        after = replace(
            fact, prompt=before + fact.text, paraphrases=(), portability=(), locality=()
        )
        found.append(("context", interview.probes(after)[0]))
    asked = ("own", "neighbour")
    return [(kind, p) for kind, p in found if kind in asked or not contains(p.prompt, p.answers)]


def ask(
    interview: Interview, facts: Sequence[Fact], objects: Mapping[str, Sequence[str]]
) -> list[Answers]:
    """What the model as it is answers to every probe of the facts.

    The last one is "choice" where there are others to choose from among the `objects` of the fact's
    relation: which of them is the likeliest after the own prompt.
    """
    rows = [fact_probes(interview, fact) for fact in facts]
    answers = iter(interview.answers([probe for row in rows for _, probe in row]))
    chosen = _choices(interview, facts, objects)
    made = []
    for fact, row, choice in zip(facts, rows, chosen, strict=True):
        texts = [next(answers)[1] for _ in row]
        right = (bool(contains(text, p.answers)) for text, (_, p) in zip(texts, row, strict=True))
        made.append(
            Answers(
                tuple(kind for kind, _ in row),
                tuple(probe.prompt for _, probe in row),
                tuple(texts),
                tuple(right),
            )
        )
        if choice is not None:
            made[-1] = made[-1].and_also("choice", fact.text, choice, choice == fact.target)
    return made


def others(fact: Fact, objects: Mapping[str, Sequence[str]]) -> list[str]:
    """The other objects of a fact's relation."""
    known = () if fact.relation is None else objects.get(fact.relation, ())
    return [text for text in dict.fromkeys(known) if text != fact.target]


def _choices(
    interview: Interview, facts: Sequence[Fact], objects: Mapping[str, Sequence[str]]
) -> list[str | None]:
    """Of each fact the likeliest object of its relation, log p summed over its tokens as in MC1."""
    lm = interview.lm
    asked = {
        i: [fact.target, *rest] for i, fact in enumerate(facts) if (rest := others(fact, objects))
    }
    if not asked:
        return [None] * len(facts)
    prompts = [facts[i].text for i in asked]
    options = [[lm.codec.continuation(facts[i].text, x) for x in row] for i, row in asked.items()]
    scored = lm.options(prompts, options, interview.batch_size)
    best: dict[int, str] = {}
    for (i, row), scores in zip(asked.items(), scored, strict=True):
        best[i] = row[max(range(len(row)), key=lambda j: scores[j].total)]
    return [best.get(i) for i in range(len(facts))]


def forgetting(before: Answers, now: Answers) -> dict[str, float]:
    """The scores of a fact: shares of the probes that were right before; NaN where none was.

    Those of `FORGET` are the share whose answer is gone, "neighbours_kept" is the share that stays.
    """
    scores = {name: 1 - _still(before, now, kind) for name, kind in FORGET.items()}
    return scores | {"neighbours_kept": _still(before, now, "neighbour")}


def verdict(before: Answers, now: Answers) -> Verdict:
    """What became of a fact.

    not known    the model did not answer its own prompt before
    kept         it still does
    suppressed   it no longer does, but another probe of the fact (not of its neighbours) that had
                 the answer before still has it; or no other probe had it, so that none can tell
    erased       no probe that had the answer has it any more, and there were others than the own
    """
    own = _still(before, now, "own")
    if math.isnan(own):
        return "not known"
    if own:
        return "kept"
    others = [_still(before, now, kind) for kind in FORGET.values() if kind != "own"]
    known = [share for share in others if not math.isnan(share)]
    return "erased" if known and not any(known) else "suppressed"


def _still(before: Answers, now: Answers, kind: str) -> float:
    rows = zip(before.kinds, before.right, now.right, strict=True)
    kept = [after for own, known, after in rows if own == kind and known]
    return sum(kept) / len(kept) if kept else math.nan

"""Long texts after an edit: are the new fact, and all else, still true in them? (LEME.)

Rosati et al. (NAACL 2024, arXiv:2402.09394). After an edit the model writes, greedily, about the
fact's subject ("main") and about an entity that is related to it ("related"). The arms are those of
`memkit.protocols.told`; in the prompt is the edit as a sentence. Claims are the new fact, the old
one, and what was known of either entity ("known"). Scores are means over cases:

    main new, main old, related new, related old
                    whether the claim's object is mentioned, in whole words
    main known, related known
                    share of the known relations with such a mention
    ... rougeL      ROUGE-L F1 of the claim and the text, as in the paper's automatic metrics; of
                    the new fact and the old one
    ... supported, ... contradicted
                    by a judge, where one is given
    nll             nats a token of both texts, by the unedited model
    fluency         weighted 2- and 3-gram entropy (Meng et al. 2022)

The paper's own scores are a survey of people, or GPT-4 in their place, and a trained classifier: a
`judge` is any function of pairs of passage and claim that gives "supports", "contradicts" or
"neutral" for each; `agreement` says how far it agrees with the people who labelled LEME's claims.

Departures: no repetition penalty; texts are cut at `max_new_tokens`, 600 in the paper; claims about
the related entity name it, where the paper's code names the subject there, too.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from memkit.benchmarks.cases import stated
from memkit.benchmarks.leme import LABELS, Claim, LongFormCase
from memkit.errors import BadInput
from memkit.lm.checks import check_count
from memkit.metrics import contains, generation_entropy
from memkit.protocols.cells import Cell, mean_cell
from memkit.protocols.told import Ask, Speaker, Told, hear
from memkit.protocols.told_result import ToldRecord, ToldResult, summarised
from memkit.protocols.unstructured import similarities
from memkit.types import Fact, Passage

if TYPE_CHECKING:
    from memkit.editors.base import Editor
    from memkit.lm.model import LM
    from memkit.retrieval.base import Retriever

__all__ = ["Agreement", "Judge", "agreement", "longform"]

Judge = Callable[[Sequence[tuple[str, str]]], Sequence[str]]
TEXTS = ("main", "related")
Said = tuple[str, tuple[str, ...]]  # what is claimed, in words, and its objects


@dataclass(frozen=True, slots=True)
class Agreement:
    """How a judge and people agree: share of equal labels, Cohen's kappa, and counts of pairs."""

    accuracy: Cell
    kappa: float
    pairs: Mapping[tuple[str, str], int]


def agreement(
    judge: Judge, claims: Sequence[Claim], *, samples: int = 1000, seed: int = 0
) -> Agreement:
    """Let a judge label claims that people have labelled; `pairs` count (people's, judge's).

    Kappa is 0 where chance alone explains the agreement (Cohen 1960).

    Raises `BadInput` for no claims, or labels that are none.
    """
    if not claims:
        raise BadInput("there are no claims; allowed: at least one. Load leme's annotations.")
    found = _judged(judge, [(claim.passage, claim.claim) for claim in claims])
    pairs = Counter((str(claim.label), label) for claim, label in zip(claims, found, strict=True))
    equal = [float(claim.label == label) for claim, label in zip(claims, found, strict=True)]
    sides = [Counter(pair[side] for pair in pairs.elements()) for side in (0, 1)]
    chance = sum(sides[0][label] * sides[1][label] for label in LABELS) / len(claims) ** 2
    share = sum(equal) / len(equal)
    kappa = (share - chance) / (1 - chance) if chance < 1 else 0.0
    return Agreement(mean_cell(equal, samples, seed), kappa, dict(pairs))


def longform(
    lm: LM,
    editors: Editor | Mapping[str, Editor],
    cases: Sequence[LongFormCase],
    *,
    judge: Judge | None = None,
    retriever: Retriever | None = None,
    k: int = 1,
    max_new_tokens: int = 200,
    samples: int = 1000,
    seed: int = 0,
    batch_size: int = 8,
) -> ToldResult:
    """Let a model write after each edit, as the module says; it is afterwards as it was.

    Raises `BadInput` and `UnsupportedModel` as `memkit.protocols.told.hear`, and for a judge's
    labels that are none; `MissingDependency` without rouge-score or sacrebleu (extra `scores`).
    """
    check_count("samples", samples)
    similar = similarities()
    writer = Writer(lm, max_new_tokens=max_new_tokens, stop=(), batch_size=batch_size)
    told = [
        Told(
            (case.fact,),
            (Passage(f"edit-{case.id or number}", stated(case.fact)),),
            (Ask(case.prompt), Ask(case.related_prompt)),
        )
        for number, case in enumerate(cases)
    ]
    heard = hear(writer, editors, told, retriever, k)
    records = []
    for n, case in enumerate(cases):
        texts = {
            arm: tuple(_whole(*pair) for pair in zip(_heads(case), own.answers[n], strict=True))
            for arm, own in heard.items()
        }
        scores = {arm: _scores(lm, case, own, similar, judge) for arm, own in texts.items()}
        records.append(ToldRecord(case.id, (case.prompt, case.related_prompt), texts, scores))
    return ToldResult(
        protocol="longform",
        model=repr(lm),
        settings={"max_new_tokens": max_new_tokens, "k": k, "seed": seed},
        cells=summarised(records, samples, seed),
        rejected={arm: own.rejected for arm, own in heard.items()},
        records=tuple(records),
    )


@dataclass(frozen=True, slots=True)
class Writer(Speaker):
    """A model that goes on from prompts of several lines, kept as they are."""

    def _prompt(self, ask: Ask, passages: Sequence[Passage]) -> str:
        return "\n".join([*(passage.text for passage in passages), ask.text])

    def as_asked(self, fact: Fact) -> Fact:
        """The fact as it is: texts are no answers to its prompt."""
        return fact


def _heads(case: LongFormCase) -> tuple[str, str]:
    return case.fact.subject, case.related


def _whole(head: str, text: str) -> str:
    """The text with the name that its prompt ends in."""
    return f"{head} {text}".strip()


def _claims(case: LongFormCase) -> dict[str, list[Said]]:
    """What may be said in each text, by text and kind of claim."""
    made: dict[str, list[Said]] = {}
    for text in TEXTS:
        for kind, name in (("new", case.fact.target), ("old", case.fact.previous)):
            if name:
                made[f"{text} {kind}"] = [(f"{case.fact.text} {name}", (name,))]
    sides = zip(TEXTS, _heads(case), (case.known, case.related_known), strict=True)
    for text, head, known in sides:
        if known:
            made[f"{text} known"] = [
                (f"{head} {relation} {', '.join(objects)}", objects)
                for relation, objects in known.items()
            ]
    return made


def _scores(
    lm: LM,
    case: LongFormCase,
    texts: tuple[str, ...],
    similar: Callable[[str, str], Mapping[str, float]],
    judge: Judge | None,
) -> dict[str, float]:
    claims = _claims(case)
    scores: dict[str, float] = {}
    for name, own in claims.items():
        text = texts[TEXTS.index(name.split()[0])]
        scores[name] = _mean([contains(text, objects) for _, objects in own])
        if not name.endswith("known"):
            scores[f"{name} rougeL"] = similar(text, own[0][0])["rougeL F1"]
        if judge is not None:
            labels = _judged(judge, [(text, claim) for claim, _ in own])
            for kind, label in (("supported", LABELS[0]), ("contradicted", LABELS[1])):
                scores[f"{name} {kind}"] = _mean([float(found == label) for found in labels])
    if lm.kind == "decoder":
        scores["nll"] = math.log(lm.perplexity(texts))
    scores["fluency"] = _mean([generation_entropy(text) for text in texts])
    return scores


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _judged(judge: Judge, pairs: Sequence[tuple[str, str]]) -> list[str]:
    """A judge's labels. Raises `BadInput` if it gives others, or not as many."""
    found = list(judge(pairs))
    if len(found) != len(pairs) or not set(found) <= set(LABELS):
        raise BadInput(
            f"the judge gave {found!r:.80} for {len(pairs)} pairs; allowed: one of "
            f"{', '.join(LABELS)} for each. Change the judge."
        )
    return found

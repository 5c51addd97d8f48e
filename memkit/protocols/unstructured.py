"""Unstructured edits: a fact given as a passage, and how much of it the model can say.

UnKE (Deng et al. 2024, arXiv:2405.15349, section 5) and AKEW (Wu et al., EMNLP 2024). Of each fact
the question, its paraphrases and its sub-questions are asked, by free, greedy generation up to a
stop string, of the unedited model, after each editor's edit, with the passage in the prompt, and
with what a retriever finds (`memkit.protocols.told`). Scores are means over facts, each the mean
over its own probes, with 95 % intervals by resampling facts:

    question, paraphrase    ROUGE-1, -2, -L recall (shared n-grams, or the longest common
                            subsequence, over the reference's length) and ROUGE-L F1, by
                            rouge-score; BLEU / 100 of words, by sacrebleu (13a, effective order);
                            cosine of sentence vectors, if an encoder is given; whether the
                            reference is mentioned as a whole, which short ones can be
    sub-questions           ROUGE-L recall, and whether the answer is mentioned

The reference is the fact's target: in UnKE the paragraph itself, in AKEW the short object. Recall
grows with the length of what is said, so F1 stands beside it.

Departures from the UnKE code:
- BLEU is of words. There whole strings go into nltk's `sentence_bleu`, which takes them for lists
  of letters: published figures count letters, and cannot be compared with these.
- Facts are worded as they are asked, by `template`, also for editors.
- Answers to sub-questions are not judged by GPT-4.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from memkit.errors import BadInput, MissingDependency
from memkit.lm.checks import check_count
from memkit.metrics import contains
from memkit.prompts import Template
from memkit.protocols.cells import Cell, aligned, cell_text, mean_cell, settings_text
from memkit.protocols.told import Ask, Speaker, Told, hear
from memkit.types import Fact, Passage

if TYPE_CHECKING:
    from memkit.editors.base import Editor
    from memkit.lm.model import LM
    from memkit.retrieval.base import Retriever
    from memkit.retrieval.encoders import Encoder

__all__ = ["UnstructuredRecord", "UnstructuredResult", "similarities", "unstructured"]

ROUGE = ("rouge1", "rouge2", "rougeL")
MAIN = ("question", "paraphrase")
SUB = "sub-question"
Scores = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class UnstructuredRecord:
    """One fact: for each arm its answers, in the order of `prompts`, and its scores by name."""

    fact: Fact
    prompts: tuple[str, ...]
    answers: Mapping[str, tuple[str, ...]]
    scores: Mapping[str, Scores]


@dataclass(frozen=True, slots=True)
class UnstructuredResult:
    """What `memkit.protocols.unstructured` found.

    `cells` are by arm and by score ("question rougeL", "sub-question contains", ...), a score
    without a probe is absent; `rejected` counts the edits that a guard refused, by arm.
    """

    model: str
    settings: Mapping[str, Any]
    cells: Mapping[str, Mapping[str, Cell]]
    rejected: Mapping[str, int]
    records: tuple[UnstructuredRecord, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain dicts, lists and numbers."""
        return dataclasses.asdict(self)

    def __str__(self) -> str:
        """A row for each arm and a table for each kind of probe, 95 % intervals in brackets."""
        settings = settings_text(self.settings)
        lines = [self.model, f"{len(self.records)} facts; {settings}"]
        names = list(dict.fromkeys(name for cells in self.cells.values() for name in cells))
        for kind in (*MAIN, SUB):
            own = [name for name in names if name.startswith(f"{kind} ")]
            if not own:
                continue
            rows = [[kind, *(name.removeprefix(f"{kind} ") for name in own)]]
            for arm, cells in self.cells.items():
                rows.append([arm, *(cell_text(cells[name]) for name in own)])
            lines += ["", *aligned(rows)]
        refused = {arm: count for arm, count in self.rejected.items() if count}
        return "\n".join([*lines, *(f"{arm}: {n} edits refused" for arm, n in refused.items())])


def unstructured(
    lm: LM,
    editors: Editor | Mapping[str, Editor],
    facts: Sequence[Fact],
    *,
    retriever: Retriever | None = None,
    encoder: Encoder | None = None,
    template: Template | None = None,
    k: int = 1,
    max_new_tokens: int = 64,
    stop: str | Sequence[str] = ("\n",),
    samples: int = 1000,
    seed: int = 0,
    batch_size: int = 32,
) -> UnstructuredResult:
    """Score passages as facts, as the module says; the model is afterwards as it was.

    The passage of a fact is its definition. An editor writes the fact's target after the question,
    or, if it learns definitions (`FineTune(text="definition")`), the passage. `retriever` should
    hold the passages (`Benchmark.passages`). What stands in no line of its own is asked with
    `stop=()`, as EditEverything's answers of several lines.

    Raises `BadInput` for no facts or one without a definition, and as `memkit.protocols.told.hear`;
    `MissingDependency` without rouge-score or sacrebleu (extra `scores`).
    """
    check_count("samples", samples)
    stops = (stop,) if isinstance(stop, str) else tuple(stop)
    speaker = Speaker(lm, template or Template(), max_new_tokens, stops, batch_size)
    similar = similarities(encoder)
    cases = [_case(speaker, fact) for fact in facts]
    heard = hear(speaker, editors, cases, retriever, k)
    records = tuple(
        _record(fact, case, {arm: own.answers[n] for arm, own in heard.items()}, similar)
        for n, (fact, case) in enumerate(zip(facts, cases, strict=True))
    )
    return UnstructuredResult(
        model=repr(lm),
        settings={"max_new_tokens": max_new_tokens, "stop": stops, "k": k, "seed": seed},
        cells={arm: _cells(records, arm, samples, seed) for arm in heard},
        rejected={arm: own.rejected for arm, own in heard.items()},
        records=records,
    )


def similarities(encoder: Encoder | None = None) -> Callable[[str, str], Scores]:
    """Scores of an answer and its reference, by name, all in [0, 1] but the cosine in [-1, 1].

    An answer of no words has a cosine of 0; a reference of one word no ROUGE-2. ROUGE's words are
    runs of ASCII letters and digits, lower-cased: it is for English.

    Raises `MissingDependency` without rouge-score or sacrebleu.
    """
    try:
        from rouge_score.rouge_scorer import RougeScorer
        from sacrebleu.metrics import BLEU
    except ImportError as error:
        raise MissingDependency(
            f"rouge-score or sacrebleu is not installed ({error}), and texts are compared with "
            "them; allowed: with both. Install them: pip install 'memkit[scores]'."
        ) from error
    rouge, bleu = RougeScorer(ROUGE), BLEU(effective_order=True)

    def similar(answer: str, reference: str) -> Scores:
        found = rouge.score(reference, answer)
        scores = {name: float(found[name].recall) for name in ROUGE}
        if len(reference.split()) < 2:
            del scores["rouge2"]  # there are no two words that could be shared
        scores["rougeL F1"] = float(found["rougeL"].fmeasure)
        scores["bleu"] = float(bleu.sentence_score(answer, [reference]).score) / 100
        if encoder is not None:
            scores["cosine"] = _cosine(encoder, answer, reference)
        scores["contains"] = contains(answer, [reference])
        return scores

    return similar


def _cosine(encoder: Encoder, answer: str, reference: str) -> float:
    if not answer.strip():
        return 0.0
    one, other = encoder.encode_passages([answer, reference])
    return float(one @ other / (np.linalg.norm(one) * np.linalg.norm(other)))


def _case(speaker: Speaker, fact: Fact) -> Told:
    if not (fact.definition or "").strip():
        raise BadInput(
            f"the fact {fact.text[:80]!r} has no definition; allowed: one with its passage there. "
            "Give it one, or take memkit.protocols.editing."
        )
    name = fact.id or fact.text[:40]
    asked = (fact.text, *(p.replace("{}", fact.subject) for p in fact.paraphrases))
    asks = tuple(map(Ask, (*asked, *(prompt for prompt, _ in fact.portability))))
    passage = Passage(f"told-{name}", fact.definition or "")
    return Told((speaker.as_asked(fact),), (passage,), asks)


def _record(
    fact: Fact,
    case: Told,
    answers: Mapping[str, tuple[str, ...]],
    similar: Callable[[str, str], Scores],
) -> UnstructuredRecord:
    kinds = [MAIN[0], *[MAIN[1]] * len(fact.paraphrases), *[SUB] * len(fact.portability)]
    references = [fact.target] * (1 + len(fact.paraphrases)) + [e for _, e in fact.portability]
    scores = {}
    for arm, said in answers.items():
        found: dict[str, list[float]] = {}
        for kind, answer, reference in zip(kinds, said, references, strict=True):
            own = similar(answer, reference)
            kept = ("rougeL", "contains") if kind == SUB else own
            for name in kept:
                found.setdefault(f"{kind} {name}", []).append(own[name])
        scores[arm] = {name: sum(row) / len(row) for name, row in found.items()}
    return UnstructuredRecord(fact, tuple(ask.text for ask in case.asks), dict(answers), scores)


def _cells(
    records: Sequence[UnstructuredRecord], arm: str, samples: int, seed: int
) -> dict[str, Cell]:
    """The mean of each score over the facts that have it."""
    rows = [record.scores[arm] for record in records]
    names = dict.fromkeys(name for row in rows for name in row)
    return {
        name: mean_cell([row[name] for row in rows if name in row], samples, seed) for name in names
    }

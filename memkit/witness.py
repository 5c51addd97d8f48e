"""The weights as second witness: text is believed only as far as others bear it out.

A poisoned passage works because it stands in the same prompt as the true ones and speaks last, or
often. So passages are isolated (RobustRAG: Xiang et al. 2024, arXiv:2405.15556): the model answers
once for each, and once from its weights, and the answers vote.

    1. the k best passages are fetched; those that do not mention the question's subject, where that
       is known, are left out
    2. the model answers from each alone; an answer that does not stand in its passage is no vote
    3. near-duplicates (shared words over all words at least `alike`) with the same answer are one
       witness, however many they are: repeating a claim (PoisonedRAG: Zou et al., USENIX Security
       2025) adds no vote
    4. the answer with the highest score wins; of equal ones that of the better rank:

           score(a) = witnesses for a
                    + weight * p(a), if a is the closed-book answer
                    + lean * ln p(a), p(a) by the weights, closed book

The second term lets weights that know outvote a passage, and weights that do not know say nothing;
the third decides between passages that contradict each other.

Questions that the QA's router sends to the weights are answered from them alone; text that the
decision itself brings (`EditScope`) is trusted.

Price: one answer from the weights, else one and one for each passage, and a pass that scores the
candidates; no prompt holds more than one passage.

Departures from RobustRAG: whole answers vote, not keywords or tokens, and the weights vote, too.
There is no certificate.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from memkit.errors import BadInput
from memkit.metrics import contains, normalise
from memkit.qa import QA
from memkit.types import Answer, Decision, Hit, Question

__all__ = ["Ballot", "SecondWitness", "Verdict"]

WORD = re.compile(r"\w+")


@dataclass(frozen=True, slots=True)
class Ballot:
    """A witness's answer, and the passages behind it; none: the weights."""

    answer: Answer
    hits: tuple[Hit, ...]


@dataclass(frozen=True, slots=True)
class Verdict:
    """The answer that won, all ballots, scores by normalised answer, answers the model wrote."""

    answer: Answer
    ballots: tuple[Ballot, ...]
    scores: Mapping[str, float]
    calls: int


@dataclass(frozen=True)
class SecondWitness:
    """A QA whose text has to be borne out; asked like one.

    qa: its router decides what is looked up at all; it needs a retriever.
    k: how many passages are fetched; at least 1.
    weight, lean: of the weights, see the module; at least 0.
    alike: the share of words from which two passages are near-duplicates; in (0, 1].
    lead: abstain where the best answer's score is not ahead of the second's by that much; at least
        0, which never abstains.

    Raises `BadInput` for other values.
    """

    qa: QA
    k: int = 5
    weight: float = 1.0
    lean: float = 0.05
    alike: float = 0.5
    lead: float = 0.0

    def __post_init__(self) -> None:
        """Check the hyper-parameters."""
        for name, fine, allowed in (
            ("qa", self.qa.retriever is not None, "a QA with a retriever"),
            ("k", self.k >= 1, "at least 1"),
            ("weight", self.weight >= 0, "at least 0"),
            ("lean", self.lean >= 0, "at least 0"),
            ("alike", 0 < self.alike <= 1, "a share in (0, 1]"),
            ("lead", self.lead >= 0, "at least 0"),
        ):
            if not fine:
                raise BadInput(
                    f"SecondWitness.{name} is {getattr(self, name)!r}; allowed: {allowed}."
                )

    def ask(self, questions: Sequence[str | Question]) -> list[Answer]:
        """The answers of `judge`."""
        return [verdict.answer for verdict in self.judge(questions)]

    def judge(self, questions: Sequence[str | Question]) -> list[Verdict]:
        """Answer each question with its ballots. Raises as `QA.ask`."""
        asked = [q if isinstance(q, Question) else Question(q) for q in questions]
        decisions = self.qa.decide(asked)
        heard: list[int] = []
        rest: list[int] = []
        for row, decision in enumerate(decisions):
            searches = decision.source == "retrieval" and not decision.passages
            (heard if searches else rest).append(row)
        settled = replace(self.qa, router=_Settled({asked[r]: decisions[r] for r in rest}))
        verdicts = {
            row: Verdict(answer, (), {}, int(answer.decision.source != "abstain"))
            for row, answer in zip(rest, settled.ask([asked[row] for row in rest]), strict=True)
        }
        if heard:
            found = self._heard([asked[row] for row in heard], [decisions[row] for row in heard])
            verdicts.update(zip(heard, found, strict=True))
        return [verdicts[row] for row in range(len(asked))]

    def _heard(self, questions: Sequence[Question], decisions: Sequence[Decision]) -> list[Verdict]:
        """Verdicts on questions for which text is fetched."""
        assert self.qa.retriever is not None
        alone = replace(self.qa, router=None, retriever=None)
        closed = alone.ask(questions)
        found = self.qa.retriever.search([question.text for question in questions], self.k)
        flat = [
            (row, hit)
            for row, hits in enumerate(found)
            for hit in hits
            if _speaks_of(hit, questions[row])
        ]
        asked = [questions[row] for row, _ in flat]
        said = alone.ask(asked, given=[[hit.passage] for _, hit in flat])
        own: list[list[tuple[Hit, Answer]]] = [[] for _ in questions]
        for (row, hit), answer in zip(flat, said, strict=True):
            own[row].append((hit, answer))
        ballots = [
            [Ballot(weights, ()), *self._witnesses(pairs)]
            for weights, pairs in zip(closed, own, strict=True)
        ]
        leanings = self._leanings(ballots)
        return [
            self._verdict(ballots[row], leanings[row], decisions[row], 1 + len(own[row]))
            for row in range(len(questions))
        ]

    def _witnesses(self, pairs: Sequence[tuple[Hit, Answer]]) -> list[Ballot]:
        """Those whose answer stands in their passage; near-duplicates that agree are one."""
        groups: list[tuple[Answer, list[Hit]]] = []
        for hit, answer in pairs:
            if not contains(hit.passage.contents, (answer.text,)):
                continue
            words = _words(hit.passage.text)
            for first, hits in groups:
                theirs = _words(hits[0].passage.text)
                alike = len(words & theirs) >= self.alike * len(words | theirs)
                if alike and normalise(first.text) == normalise(answer.text):
                    hits.append(hit)
                    break
            else:
                groups.append((answer, [hit]))
        return [Ballot(answer, tuple(hits)) for answer, hits in groups]

    def _leanings(self, ballots: Sequence[Sequence[Ballot]]) -> list[dict[str, float]]:
        """ln p of every candidate by the weights, closed book, by its normalised form."""
        pairs = [
            (row, normalise(ballot.answer.text), ballot.answer.text)
            for row, own in enumerate(ballots)
            for ballot in own
            if normalise(ballot.answer.text)
        ]
        bare = [own[0].answer.prompt.text for own in ballots]
        scored = self.qa.lm.logprob(
            [bare[row] for row, _, _ in pairs],
            [f" {text}" for _, _, text in pairs],
            batch_size=self.qa.batch_size,
        )
        leanings: list[dict[str, float]] = [{} for _ in ballots]
        for (row, name, _), score in zip(pairs, scored, strict=True):
            leanings[row][name] = max(score.total, leanings[row].get(name, -math.inf))
        return leanings

    def _verdict(
        self,
        ballots: Sequence[Ballot],
        leanings: Mapping[str, float],
        decision: Decision,
        calls: int,
    ) -> Verdict:
        scores = {name: self.lean * leaning for name, leaning in leanings.items()}
        for ballot in ballots:
            name = normalise(ballot.answer.text)
            if name:
                scores[name] += 1.0 if ballot.hits else self.weight * math.exp(leanings[name])
        order = sorted(scores, key=lambda name: -round(scores[name], 9))
        winner = ballots[0]
        if order:
            by_rank = [*ballots[1:], ballots[0]]
            winner = next(b for b in by_rank if normalise(b.answer.text) == order[0])
        ahead = scores[order[0]] - scores[order[1]] if len(order) > 1 else math.inf
        silent = ahead < self.lead
        reason = (
            f"{decision.reason}; {len(ballots) - 1} witnesses and the weights, score "
            f"{scores[order[0]] if order else 0:.2f}, ahead by {ahead:.2f}"
        )
        answer = replace(
            winner.answer,
            text="" if silent else winner.answer.text,
            decision=replace(
                decision,
                source="abstain" if silent else decision.source,
                reason=f"abstains: {reason}" if silent else reason,
            ),
            hits=tuple(hit for ballot in ballots for hit in ballot.hits),
            seconds=sum(ballot.answer.seconds for ballot in ballots),
        )
        return Verdict(answer, tuple(ballots), scores, calls)


@dataclass(frozen=True)
class _Settled:
    """Decisions that were taken before."""

    decisions: dict[Question, Decision]

    def decide(self, question: Question) -> Decision:
        return self.decisions[question]


def _speaks_of(hit: Hit, question: Question) -> bool:
    subject = question.subject
    return subject is None or contains(hit.passage.contents, (subject,)) == 1


def _words(text: str) -> set[str]:
    return set(WORD.findall(text.lower()))

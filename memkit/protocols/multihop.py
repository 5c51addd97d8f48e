"""Multi-hop questions after edits, as MQuAKE asks them (Zhong et al., EMNLP 2023).

arXiv:2305.14795, sections 3 to 5. The edits of `batch` cases at a time are made together, and:

    edit-wise       each edit's own prompt gives the new object (mean over edits)
    instance-wise   every hop of the new chain is answered, asked alone
    multi-hop       at least one wording of the multi-hop question gets the new answer
    walk            the multi-hop question is answered hop by hop: the first hop's question, then
                    the next one's about whatever the model answered. Which questions to ask is
                    taken from the data, an *oracle decomposition*; MeLLo has a large model find it
    old answer      at least one wording gets the answer from before the edits

by editor, with the edits in the prompt, or with retrieval from a store of the group's edits: once
for a question, or in the walk once a hop (as MeLLo does, whose model then judges whether what was
found contradicts its own answer; here `Retrieval(gate=True)` shows an edit only to a question that
names its subject).

With examples of chains of thought (`Shots.thoughts`; section 5, "CoT") the model writes thoughts of
at most `thought_tokens` tokens first, and what stands after "Answer:" is its answer to a multi-hop
question; without that mark there is none.

An answer is right if it equals an accepted one (exact match, before the first stop string), with
containment beside it ("contains", in the whole text). "edited, known" are the cases all of whose
old hops the unedited model knows: MQuAKE-CF holds none but such, for GPT-J. Questions are put as
"Q: ... A:", behind the examples in `shots`; edits' own prompts stand alone. Intervals (95 %) are by
resampling cases (of edit-wise: edits).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from memkit.benchmarks.cases import Hop, MultihopCase, checked
from memkit.benchmarks.mquake import Shots
from memkit.errors import BadInput, EditRejected
from memkit.lm.checks import check_count, check_stops
from memkit.metrics import exact_match
from memkit.progress import track
from memkit.prompts import Template
from memkit.protocols.editing_probes import first_answer
from memkit.protocols.held import held
from memkit.protocols.holding import FRAME, Asker, InContext, Retrieval, Told, bare
from memkit.protocols.multihop_result import MultihopRecord, MultihopResult, Said, scored

if TYPE_CHECKING:
    from memkit.editors.base import Editor
    from memkit.lm.model import LM

__all__ = ["multihop"]

SOURCE = "the benchmark mquake has them, or memkit.world.multihop_cases makes them"
QUESTION, ANSWER = "Question:", "Answer:"  # of a chain of thought
Write = Callable[[Sequence[str]], list[str]]  # what the model writes after each prompt
Group = Sequence[MultihopCase]


def multihop(
    lm: LM,
    editor: Editor | InContext | Retrieval,
    cases: Sequence[MultihopCase],
    *,
    batch: int = 1,
    shots: Shots | None = None,
    max_new_tokens: int = 16,
    thought_tokens: int = 120,
    stop: str | Sequence[str] = ("\n", "."),
    fit_on: int = 8,
    check_bytes: bool = True,
    samples: int = 1000,
    seed: int = 0,
    batch_size: int = 32,
) -> MultihopResult:
    """Score multi-hop questions after edits, as the module says; the model is then as it was.

    `editor` may be a way to tell the edits in the prompt instead. Groups are the cases in order,
    `batch` at a time. What is None in an editor is chosen once, on the first `fit_on` edits.
    `check_bytes` hashes the weights after every group. `samples` resamples, drawn from `seed`, make
    the intervals.

    Raises `BadInput` for no cases, something else among them, edits of one group that contradict
    each other, or a parameter that is not allowed; `UnsupportedModel` for a model that cannot be
    edited or does not generate; `FingerprintMismatch` if edits left other bytes behind.
    """
    counts = {"batch": batch, "max_new_tokens": max_new_tokens, "fit_on": fit_on}
    more = {"thought_tokens": thought_tokens, "samples": samples, "batch_size": batch_size}
    for name, count in {**counts, **more}.items():
        check_count(name, count)
    shots = shots or Shots()
    if shots.thoughts:
        counts["thought_tokens"] = thought_tokens
    room = max(max_new_tokens, counts.get("thought_tokens", 0))
    stop = check_stops(stop)
    groups = _groups(cases, batch)
    told = [one for group in groups for one in _told(group)]
    way = held(
        lm,
        editor,
        told,
        room=room,
        fit_on=fit_on,
        shared=False,
        check_bytes=check_bytes,
    )
    interview = Interview.of(lm, cases, shots, (max_new_tokens, thought_tokens), stop, batch_size)
    kept = ("multihop", repr(interview.settings), tuple(cases))
    before = lm.keep(kept, lambda: interview.said(cases, bare, old=True))
    records: list[MultihopRecord] = []
    for number, group in enumerate(track(groups, "multi-hop")):
        own = before[len(records) : len(records) + len(group)]
        after, rejected = own, None
        try:
            with way.holding(_told(group)) as ask:
                after = interview.said(group, ask)
        except EditRejected as error:
            rejected = str(error)
        records += [
            MultihopRecord(case, number, rejected, interview.knows(case, old), old, new)
            for case, old, new in zip(group, own, after, strict=True)
        ]
    return scored(
        model=repr(lm),
        editor=str(way),
        settings={**counts, "stop": stop, "samples": samples, "seed": seed},
        chosen=way.chosen,
        records=tuple(records),
    )


class Interview:
    """How the model is asked: frames of the questions, stop strings, room."""

    def __init__(
        self, write: Write, think: Write, shots: Shots, stop: Sequence[str], settings: object
    ) -> None:
        self.write, self.think, self.shots = write, think, shots
        self.stop, self.settings = stop, settings

    @classmethod
    def of(
        cls,
        lm: LM,
        cases: Group,
        shots: Shots,
        room: tuple[int, int],
        stop: Sequence[str],
        batch_size: int,
    ) -> Interview:
        """Generation ends at the stop strings that no accepted answer holds; thoughts, at a gap.

        `room` are the tokens of an answer, and of thoughts with one.
        """
        answers = [a for case in cases for hop in (*case.hops, *case.new_hops) for a in hop.answers]
        answers += [a for case in cases for a in (*case.answers, *case.new_answers)]
        ends = tuple(s for s in stop if not any(s in answer for answer in answers))

        def writer(tokens: int, ends: Sequence[str]) -> Write:
            def write(prompts: Sequence[str]) -> list[str]:
                unique = list(dict.fromkeys(prompts))
                made = lm.generate(unique, tokens, tuple(ends), batch_size)
                found = dict(zip(unique, made, strict=True))
                return [found[prompt] for prompt in prompts]

            return write

        think = writer(room[1], ("\n\n", QUESTION))
        settings = (shots, room if shots.thoughts else room[0], ends)
        return cls(writer(room[0], ends), think, shots, stop, settings)

    def said(self, cases: Group, ask: Asker, *, old: bool = False) -> list[Said]:
        """What the model says to each case, while edits hold; `old`: to the old hops, too."""
        parts = [
            self._texts(cases, ask, lambda case: [(fact.text, FRAME) for fact in case.facts]),
            self._texts(cases, ask, lambda case: [self._hop(hop) for hop in case.new_hops]),
            self._multihop(cases, ask),
            self._walks(cases, ask),
        ]
        if old:
            parts.append(
                self._texts(cases, ask, lambda case: [self._hop(hop) for hop in case.hops])
            )
        return [Said(*texts) for texts in zip(*parts, strict=True)]

    def knows(self, case: MultihopCase, said: Said) -> bool:
        """Whether every old hop was answered."""
        return all(
            exact_match(first_answer(text, self.stop, hop.answers), hop.answers)
            for text, hop in zip(said.before, case.hops, strict=True)
        )

    def _texts(
        self,
        cases: Group,
        ask: Asker,
        asked: Callable[[MultihopCase], list[tuple[str, str]]],
        write: Write | None = None,
    ) -> list[tuple[str, ...]]:
        """The answers to some queries of each case, all in one go."""
        own = [asked(case) for case in cases]
        queries = [query for pairs in own for query, _ in pairs]
        frames = [frame for pairs in own for _, frame in pairs]
        texts = iter((write or self.write)(ask(queries, frames)))
        return [tuple(next(texts) for _ in pairs) for pairs in own]

    def _multihop(self, cases: Group, ask: Asker) -> list[tuple[str, ...]]:
        """The answers to the multi-hop questions, without the thoughts before them."""
        if not self.shots.thoughts:
            return self._texts(cases, ask, self._wordings)
        said = self._texts(cases, ask, self._wordings, self.think)
        return [tuple(text.partition(ANSWER)[2] for text in own) for own in said]

    def _walks(self, cases: Group, ask: Asker) -> list[tuple[str, ...]]:
        """The walk of each case, hop by hop for all of them together."""
        walks: list[list[str]] = [[] for _ in cases]
        subjects = [case.new_hops[0].subject for case in cases]
        for step in range(max(len(case.new_hops) for case in cases)):
            asked: dict[int, tuple[str, str]] = {}
            for place, case in enumerate(cases):
                if len(walks[place]) != step or step >= len(case.new_hops):
                    continue
                hop = case.new_hops[step]
                question = hop.asked_of(subjects[place]) if subjects[place] else None
                if question is not None:
                    asked[place] = question, self._hop(hop)[1]
            pairs = list(asked.values())
            prompts = ask([question for question, _ in pairs], [frame for _, frame in pairs])
            for place, text in zip(asked, self.write(prompts), strict=True):
                walks[place].append(text)
                accepted = cases[place].new_hops[step].answers
                subjects[place] = first_answer(text, self.stop, accepted)
        return [tuple(walk) for walk in walks]

    def _wordings(self, case: MultihopCase) -> list[tuple[str, str]]:
        frame = self._frame(self.shots.multihop)
        if self.shots.thoughts:
            frame = f"{self.shots.multihop}\n\n{QUESTION} {FRAME}\nThoughts:"
        return [(text, frame) for text in case.questions]

    def _hop(self, hop: Hop) -> tuple[str, str]:
        return hop.question, self._frame(self.shots.relations.get(hop.relation or "", ""))

    def _frame(self, examples: str) -> str:
        asked = Template().question
        return f"{examples}\n{asked}" if examples else asked


def _told(group: Group) -> list[Told]:
    """The edits of a group."""
    return [
        Told(fact, statement)
        for case in group
        for fact, statement in zip(case.facts, case.statements, strict=True)
    ]


def _groups(cases: Sequence[MultihopCase], size: int) -> list[Group]:
    """The cases in groups. Raises `BadInput` where edits of one contradict each other."""
    cases = checked(cases, MultihopCase, source=SOURCE)
    groups: list[Group] = [cases[start : start + size] for start in range(0, len(cases), size)]
    for group in groups:
        wanted: dict[str, tuple[str, str | None]] = {}
        for case in group:
            for fact in case.facts:
                target, other = wanted.setdefault(fact.text, (fact.target, case.id))
                if target != fact.target:
                    raise BadInput(
                        f"the cases {other!r} and {case.id!r} of one group contradict each other: "
                        f"{fact.text!r} is to be {target!r} and {fact.target!r}; allowed: edits "
                        "that can hold together. Choose a smaller batch, or MQuAKE-CF-3k-v2."
                    )
    return groups

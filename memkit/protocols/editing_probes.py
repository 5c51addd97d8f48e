"""What the editing protocol asks of a model about a fact, and how the answers are scored."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from memkit.metrics import contains, exact_match, same_answer, token_f1
from memkit.types import Fact

if TYPE_CHECKING:
    from memkit.lm.model import LM

__all__ = ["Interview", "Probe", "View", "first_answer", "values"]

Kind = Literal["reliability", "generalisation", "portability", "locality"]
LETTER = {"reliability": "E", "generalisation": "P", "locality": "N"}  # CounterFact's


@dataclass(frozen=True, slots=True)
class Probe:
    """One prompt about a fact.

    `answers` are the accepted ones, the canonical one first. `rival` is what CounterFact's metrics
    compare that one with: the fact's previous object, or its new one where the probe is about
    locality; None where it is not known, or the same. `same_subject` says whether the prompt names
    the fact's subject. Generation ends at a string in `stop`, or after `room` tokens.
    """

    kind: Kind
    prompt: str
    answers: tuple[str, ...]
    rival: str | None
    same_subject: bool
    stop: tuple[str, ...]
    room: int


@dataclass(frozen=True, slots=True)
class View:
    """What the model made of a probe.

    `text` is what it wrote, `answer` what counts of that. `nll` is the mean negative log-likelihood
    (nats) of a token of the canonical answer after the prompt, None where it is no number (a broken
    model), and `argmax` says of each of these tokens whether it was the first choice. `rival_nll`
    is that of the rival.
    """

    text: str
    answer: str
    nll: float | None
    argmax: tuple[bool, ...]
    rival_nll: float | None = None


@dataclass(frozen=True, slots=True)
class Interview:
    """How a model is asked: `room` new tokens (more where the answer is longer), stop strings."""

    lm: LM
    room: int
    stop: tuple[str, ...]
    aliases: Mapping[str, Sequence[str]]
    batch_size: int

    def probes(self, fact: Fact) -> list[Probe]:
        """The fact's own prompt, its paraphrases, portability and locality, in this order."""
        previous = fact.previous
        own = [self._probe("reliability", fact, fact.text, fact.target, previous)]
        own += [
            self._probe(
                "generalisation", fact, text.replace("{}", fact.subject), fact.target, previous
            )
            for text in fact.paraphrases
        ]
        own += [self._probe("portability", fact, *pair, None) for pair in fact.portability]
        compared = previous is not None and not same_answer(previous, fact.target)
        rival = fact.target if compared else None
        return own + [self._probe("locality", fact, *pair, rival) for pair in fact.locality]

    def answers(self, probes: Sequence[Probe]) -> list[tuple[str, str]]:
        """What the model writes after each prompt, and what counts of it; equal prompts once."""
        asked: defaultdict[tuple[tuple[str, ...], int], dict[str, str]] = defaultdict(dict)
        for probe in probes:
            asked[probe.stop, probe.room][probe.prompt] = ""
        for (stop, room), texts in asked.items():
            made = self.lm.generate(list(texts), room, stop, self.batch_size)
            texts.update(zip(list(texts), made, strict=True))
        texts_of = (asked[probe.stop, probe.room][probe.prompt] for probe in probes)
        return [
            (text, first_answer(text, self.stop, probe.answers))
            for text, probe in zip(texts_of, probes, strict=True)
        ]

    def views(self, probes: Sequence[Probe]) -> list[View]:
        """What the model makes of each probe, by free generation and by teacher forcing."""
        answers = self.answers(probes)
        canonical = [(probe.prompt, probe.answers[0]) for probe in probes]
        rivals = [(probe.prompt, probe.rival) for probe in probes if probe.rival is not None]
        pairs = list(dict.fromkeys([*canonical, *rivals]))
        targets = [self.lm.codec.continuation(*pair) for pair in pairs]
        scored = self.lm.logprob([prompt for prompt, _ in pairs], targets, self.batch_size)
        forced = dict(zip(pairs, scored, strict=True))
        views = []
        for probe, pair, (text, answer) in zip(probes, canonical, answers, strict=True):
            target = forced[pair]
            nll = _mean(target.per_token)
            rival_nll = None
            if probe.rival is not None:
                rival_nll = _mean(forced[probe.prompt, probe.rival].per_token)
            views.append(View(text, answer, nll, target.argmax, rival_nll))
        return views

    def essays(self, facts: Sequence[Fact], tokens: int) -> list[str]:
        """What the model writes after each fact's prompt in so many tokens, or up to its end token.

        Fewer where the window is smaller.
        """
        rooms: defaultdict[int, dict[str, str]] = defaultdict(dict)
        where = []
        for fact in facts:
            used = self.lm.count_tokens(fact.text) if self.lm.kind == "decoder" else 0
            room = max(1, min(tokens, self.lm.window - used))
            rooms[room][fact.text] = ""
            where.append(room)
        for room, texts in rooms.items():
            made = self.lm.generate(list(texts), room, (), self.batch_size)
            texts.update(zip(list(texts), made, strict=True))
        return [rooms[room][fact.text] for fact, room in zip(facts, where, strict=True)]

    def _probe(self, kind: Kind, fact: Fact, prompt: str, answer: str, rival: str | None) -> Probe:
        answers = tuple(dict.fromkeys((answer, *self.aliases.get(answer, ()))))
        same = rival is None or same_answer(rival, answer)
        lengths = (
            len(self.lm.codec.target(self.lm.codec.continuation(prompt, a))) for a in answers
        )
        return Probe(
            kind,
            prompt,
            answers,
            None if same else rival,
            fact.subject in prompt,
            tuple(s for s in self.stop if not any(s in a for a in answers)),
            max(self.room, 1 + max(lengths)),
        )


def values(probe: Probe, view: View, before: View) -> dict[str, float]:
    """The scores of one probe by name; `before` is what the unedited model made of it.

    See `memkit.protocols.editing` for what they are.
    """
    own = _locality(probe, view, before) if probe.kind == "locality" else _success(probe, view)
    return own | _counterfact(probe, view)


def _success(probe: Probe, view: View) -> dict[str, float]:
    exact = exact_match(view.answer, probe.answers)
    tokens = sum(view.argmax) / len(view.argmax)
    return {
        probe.kind: exact,
        f"{probe.kind}_f1": token_f1(view.answer, probe.answers),
        f"{probe.kind}_contains": contains(view.answer, probe.answers),
        f"{probe.kind}_forced_tokens": tokens,
        f"{probe.kind}_forced_sequence": float(all(view.argmax)),
        f"{probe.kind}_gap": tokens - exact,
    }


def _locality(probe: Probe, view: View, before: View) -> dict[str, float]:
    both = {
        "locality_unchanged": same_answer(before.answer, view.answer),
        "locality_right": exact_match(view.answer, probe.answers),
    }
    where = "same_subject" if probe.same_subject else "other_subjects"
    return both | {f"{name}_{where}": value for name, value in both.items()}


def _counterfact(probe: Probe, view: View) -> dict[str, float]:
    """Success and magnitude, where there is something to compare with."""
    if probe.rival is None:
        return {}
    letter, own, rival = LETTER[probe.kind], view.nll, view.rival_nll
    better = own is not None and (rival is None or own < rival)
    return {
        f"{letter}S": float(better),
        f"{letter}M": _probability(own) - _probability(rival),
    }


def _probability(nll: float | None) -> float:
    return 0.0 if nll is None else math.exp(-nll)


def _mean(logprobs: Sequence[float]) -> float | None:
    """Mean negative log-likelihood of a token; None if it is no number."""
    mean = -math.fsum(logprobs) / len(logprobs)
    return mean if math.isfinite(mean) else None


def first_answer(text: str, stop: Sequence[str], answers: Sequence[str]) -> str:
    """The text before the first stop string, stripped.

    A stop string within an accepted answer with which the text begins is a part of that answer, as
    in "St. Louis".
    """
    text = text.lstrip()
    begun = [len(a) for a in answers if text[: len(a)].lower() == a.lower()]
    start = max(begun, default=0)
    ends = [at for s in stop if (at := text.find(s, start)) >= 0]
    return text[: min(ends, default=len(text))].strip()

"""How lifelong editing scores what a model says: by token F1, by its label, or by perplexity."""

from __future__ import annotations

import abc
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from memkit.errors import BadInput, UnsupportedModel
from memkit.metrics import exact_match, grace_f1, token_f1
from memkit.protocols.editing_probes import first_answer
from memkit.types import Fact, Question

if TYPE_CHECKING:
    from memkit.benchmarks.base import Metric
    from memkit.lm.generation import Completion
    from memkit.lm.layouts import Kind
    from memkit.lm.model import LM

__all__ = ["JUDGES", "Case", "Judge", "Rules"]

Rules = Literal["memkit", "official"]
LONGEST = 700.0  # nats a token; beyond, exp has no floating-point number


@dataclass(frozen=True, slots=True)
class Case:
    """A prompt, and the answers that are right; the first one is the canonical one."""

    prompt: str
    answers: tuple[str, ...]


@dataclass(frozen=True)
class Judge(abc.ABC):
    """Asks a model and scores what it says, by memkit's rules or by those of the GRACE code.

    Raises `UnsupportedModel` for a model that cannot be asked in this way.
    """

    kinds: ClassVar[tuple[Kind, ...]]

    lm: LM
    rules: Rules
    max_new_tokens: int
    stop: tuple[str, ...]
    batch_size: int

    def __post_init__(self) -> None:
        """Check the model's kind."""
        if self.lm.kind not in self.kinds:
            raise UnsupportedModel(
                f"{type(self.lm.model).__name__} is a {self.lm.kind} model; allowed for this "
                f"stream's metric: {', '.join(self.kinds)}. Choose another model or stream."
            )

    @abc.abstractmethod
    def scores(self, cases: Sequence[Case]) -> list[float]:
        """One score a case: a share in [0, 1], or nats a token whose exp is the perplexity."""

    @abc.abstractmethod
    def wrong(self, case: Case) -> bool:
        """Whether the model is to be edited."""

    def case(self, asked: Question | Fact) -> Case:
        """A question or a fact as it is asked.

        Raises `BadInput` for a question without an answer.
        """
        answers = (asked.target,) if isinstance(asked, Fact) else asked.answers
        if not answers:
            raise BadInput(
                f"the question {asked.text[:80]!r} has no answers; allowed: at least one. Give it "
                "what is expected."
            )
        return Case(asked.text, answers)

    def fact(self, fact: Fact) -> Fact:
        """A fact as it is written."""
        return fact


class ByF1(Judge):
    """Greedy generation and the words that it shares with the answer."""

    kinds = ("decoder", "encoder-decoder")

    def scores(self, cases: Sequence[Case]) -> list[float]:
        """Token F1 with the best answer; officially of token ids, with the canonical one."""
        made = self._made(cases)
        if self.rules == "official":
            ends = [] if (end := self.lm.tokenizer.eos_token_id) is None else [end]
            targets = ([*self.lm.codec.target(case.answers[0]), *ends] for case in cases)
            pairs = zip(made, targets, strict=True)
            return [grace_f1(done.tokens, target) for done, target in pairs]
        pairs_of = zip(made, cases, strict=True)
        return [token_f1(self._answer(done, case), case.answers) for done, case in pairs_of]

    def wrong(self, case: Case) -> bool:
        """Unless the answer is an exact match; officially always."""
        if self.rules == "official":
            return True
        (done,) = self._made([case])
        return not exact_match(self._answer(done, case), case.answers)

    def _made(self, cases: Sequence[Case]) -> list[Completion]:
        prompts = [case.prompt for case in cases]
        return self.lm.complete(prompts, self.max_new_tokens, "\n", self.batch_size)

    def _answer(self, done: Completion, case: Case) -> str:
        return first_answer(done.text, self.stop, case.answers)


class ByLabel(Judge):
    """A classifier's first choice. Documents are cut to its window, by whole words."""

    kinds = ("classifier",)

    def scores(self, cases: Sequence[Case]) -> list[float]:
        """1 where it is the label, else 0."""
        labels = [case.answers[0] for case in cases]
        found = self.lm.logprob([case.prompt for case in cases], labels, self.batch_size)
        return [float(score.argmax[0]) for score in found]

    def wrong(self, case: Case) -> bool:
        """Where another label is the first choice."""
        return not self.scores([case])[0]

    def case(self, asked: Question | Fact) -> Case:
        """The document, cut. Raises `BadInput` for a label that the model does not have."""
        whole = super().case(asked)
        labels = self.lm.model.config.label2id
        if whole.answers[0] not in labels:
            raise BadInput(
                f"{whole.answers[0]!r}, expected of {whole.prompt[:60]!r}, is no label; allowed: "
                f"{', '.join(map(repr, labels))}. Correct it, or load the stream's own model."
            )
        return Case(self.lm.codec.shorten(whole.prompt, self.lm.window), whole.answers)

    def fact(self, fact: Fact) -> Fact:
        """The document, cut; what is left of the subject."""
        text = self.lm.codec.shorten(fact.text, self.lm.window)
        subject = fact.subject if fact.subject in text else text
        return Fact(subject=subject, prompt=text, target=fact.target, id=fact.id)


class ByPerplexity(Judge):
    """How likely the answer is after the prompt. Answers are cut to the window, by whole words."""

    kinds = ("decoder",)

    def scores(self, cases: Sequence[Case]) -> list[float]:
        """Mean negative log-likelihood (nats) of a token of the answer."""
        targets = [self.lm.codec.continuation(case.prompt, case.answers[0]) for case in cases]
        found = self.lm.logprob([case.prompt for case in cases], targets, self.batch_size)
        each = (-math.fsum(score.per_token) / len(score.per_token) for score in found)
        return [nll if nll < LONGEST else LONGEST for nll in each]

    def wrong(self, case: Case) -> bool:
        """Always: a wrong sentence was said."""
        return True

    def case(self, asked: Question | Fact) -> Case:
        """The prompt with its answer, cut."""
        whole = super().case(asked)
        return Case(whole.prompt, tuple(self._cut(whole.prompt, text) for text in whole.answers))

    def fact(self, fact: Fact) -> Fact:
        """The fact with its target, cut."""
        target = self._cut(fact.text, fact.target)
        return Fact(subject=fact.subject, prompt=fact.prompt, target=target, id=fact.id)

    def _cut(self, prompt: str, answer: str) -> str:
        """Raises `BadInput` if the prompt leaves no room."""
        room = self.lm.window - self.lm.count_tokens(prompt)
        text = self.lm.codec.shorten(answer, room - 1)  # the space before it may be a token
        if not text.strip():
            raise BadInput(
                f"the prompt {prompt[:60]!r}... leaves {room} tokens for its answer; allowed: one "
                f"word or more within {self.lm.window} tokens, the model's window. Shorten it."
            )
        return text


JUDGES: Mapping[Metric, type[Judge]] = {
    "f1": ByF1,
    "accuracy": ByLabel,
    "perplexity": ByPerplexity,
}

"""Prompts: templates as values, filled within a token budget.

The default is that of Mallen et al. (ACL 2023, section 4), blank lines between the parts:

    shots       Q: <question> A: <answer>        one line each, the same on every road
    passages    the retrieved text               only where something was retrieved
    question    Q: <question> A:

Retrieved text is data. Each passage, like the question, becomes one line: no white space in it can
imitate the blank line that ends it, and special tokens that it spells out are broken up. What a
passage *says* still reaches the model; a small model may follow it.

Departure: upstream cuts a prompt that is too long from its left end, shots first. Here shots and
question are always whole, and of the passages the least relevant goes first; the `Prompt` says
what was cut and dropped.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from memkit.errors import BadInput
from memkit.types import Passage, Prompt

__all__ = ["DEFINITION", "Template"]

Count = Callable[[str], int]


@dataclass(frozen=True, slots=True)
class Template:
    """How shots, passages and a question become a prompt.

    question: has "{question}" where the question goes.
    passage: has "{text}", and "{title}" if titles are wanted (empty for a passage without one).
    separator: stands between all parts.
    shots: pairs of question and answer that are shown first, whatever is asked; the answer follows
        the question after a space.

    Raises `BadInput` for a missing place holder, an empty separator, or a shot that is no pair.
    """

    question: str = "Q: {question} A:"
    passage: str = "{text}"
    separator: str = "\n\n"
    shots: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        """Check the place holders, the separator and the shots."""
        for name, place in (("question", "{question}"), ("passage", "{text}")):
            if place not in getattr(self, name):
                raise BadInput(
                    f"Template.{name} is {getattr(self, name)!r}; allowed: text with {place!r} "
                    f"in it. Put {place!r} where the {name} goes."
                )
        if not self.separator:
            raise BadInput(
                "Template.separator is ''; allowed: text that keeps the parts apart. Use '\\n\\n'."
            )
        object.__setattr__(self, "shots", tuple(map(_pair, self.shots)))

    def render(self, question: str, passages: Sequence[Passage] = ()) -> str:
        """The prompt, however long it is."""
        shots = (f"{self._ask(shown)} {_line(answer)}" for shown, answer in self.shots)
        texts = (self._tell(passage) for passage in passages)
        return self.separator.join([*shots, *texts, self._ask(question)])

    def fit(
        self,
        question: str,
        passages: Sequence[Passage],
        *,
        count: Count,
        budget: int,
        special: Sequence[str] = (),
    ) -> Prompt:
        """The prompt in at most `budget` tokens, as `count` counts them.

        Passages go in whole in the order given, for as long as they fit. The first that does not
        is cut after the last word that fits, and those behind it are dropped. `special` are the
        tokenizer's special tokens: where a passage spells one out, a space is put into it.

        Raises `BadInput` if the question, with the shots, does not fit even without passages.
        """
        passages = [_harmless(passage, special) for passage in passages]
        ids = tuple(passage.id for passage in passages)
        text = self.render(question, passages)
        tokens = count(text)
        if tokens <= budget:
            return Prompt(text, tokens, ids)
        self._check_bare(question, count, budget)
        whole = _most(
            lambda n: count(self.render(question, passages[:n])) <= budget, len(passages) - 1
        )
        kept, first = list(passages[:whole]), passages[whole]
        words = first.text.split()
        fits = _most(
            lambda n: count(self.render(question, [*kept, _cut(first, words[:n])])) <= budget,
            len(words) - 1,
        )
        shown = [*kept, _cut(first, words[:fits])] if fits else kept
        text = self.render(question, shown)
        return Prompt(
            text,
            count(text),
            ids[:whole],
            cut=first.id if fits else None,
            dropped=ids[whole + bool(fits) :],
        )

    def _check_bare(self, question: str, count: Count, budget: int) -> None:
        tokens = count(self.render(question))
        if tokens > budget:
            shots = f" and {len(self.shots)} shots" if self.shots else ""
            raise BadInput(
                f"the question {_short(question)} has {tokens} tokens with its template{shots}; "
                f"allowed: {budget}, the model's window less the room for the answer. Shorten it, "
                "give fewer shots or a smaller max_new_tokens, or take a model with a longer "
                "window."
            )

    def _ask(self, question: str) -> str:
        return self.question.replace("{question}", _line(question))

    def _tell(self, passage: Passage) -> str:
        parts = {"{title}": _line(passage.title or ""), "{text}": _line(passage.text)}
        return re.sub(r"\{(?:title|text)\}", lambda place: parts[place.group()], self.passage)


def _pair(shot: Sequence[str]) -> tuple[str, str]:
    """A shot as a pair. Raises `BadInput` for anything else."""
    if isinstance(shot, str) or len(shot) != 2 or not all(map(str.strip, shot)):
        raise BadInput(
            f"Template.shots has {shot!r}; allowed: pairs of question and answer, both text that "
            "is not empty. Write (question, answer)."
        )
    question, answer = shot
    return question, answer


def _line(text: str) -> str:
    """The text on one line: every run of white space is one space."""
    return " ".join(text.split())


def _harmless(passage: Passage, special: Sequence[str]) -> Passage:
    """The passage with a space after the first character of every special token in it."""
    fields = {"text": passage.text, "title": passage.title or ""}
    for token in special:
        if len(token) > 1:
            apart = f"{token[0]} {token[1:]}"
            fields = {name: text.replace(token, apart) for name, text in fields.items()}
    if fields["text"] == passage.text and fields["title"] == (passage.title or ""):
        return passage
    return Passage(passage.id, fields["text"], fields["title"] or None)


def _cut(passage: Passage, words: Sequence[str]) -> Passage:
    return dataclasses.replace(passage, text=" ".join(words))


def _most(fits: Callable[[int], bool], largest: int) -> int:
    """The largest n from 0 to `largest` that fits, where 0 does and longer ones fit less."""
    low, high = 0, largest
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle) else (low, middle - 1)
    return low


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:57] + "...")


# Definition injection (Onoe et al., ACL 2023, section 5): a definition, a space, the probe.
DEFINITION = Template(question="{question}", separator=" ")

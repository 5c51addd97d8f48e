"""Training text: how often each fact is stated, and in which words."""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from memkit.benchmarks.base import Benchmark
from memkit.errors import BadInput
from memkit.files import write_text
from memkit.prompts import Template
from memkit.types import Fact

if TYPE_CHECKING:
    from memkit.editors.base import Editor

__all__ = ["Statements", "located", "trained_facts"]

AS_QUESTION = 0.4  # share of wordings in question form
ROW = 5  # statements in a text of a corpus
CEILING = 0.12  # subjects more popular than this share of all are stated no more often


def trained_facts(benchmark: Benchmark) -> list[Fact]:
    """The facts that training may state: those whose subject has a popularity above 0.

    Raises `BadInput` if there are none.
    """
    views = {str(q.id): q.popularity or 0 for q in benchmark.questions}
    facts = [fact for fact in benchmark.facts if views.get(str(fact.id), 0) > 0]
    if not facts:
        raise BadInput(
            f"{benchmark.name!r} has no fact whose subject has a popularity above 0; allowed: at "
            "least one. Without popularity nothing says how often to state a fact."
        )
    return facts


class Statements:
    """Draws facts in proportion to their subject's popularity, up to a ceiling, and words them.

    The ceiling is the popularity at the `ceiling` quantile from the top: without it, half of the
    text would be about a handful of subjects.
    """

    def __init__(
        self, benchmark: Benchmark, facts: Sequence[Fact], ceiling: float = CEILING
    ) -> None:
        questions = {str(q.id): q for q in benchmark.questions}
        self.facts = list(facts)
        self.questions = {str(fact.id): questions[str(fact.id)].text for fact in facts}
        views = [float(questions[str(fact.id)].popularity or 0) for fact in facts]
        limit = sorted(views, reverse=True)[int(ceiling * len(views))]
        self.cumulative = list(itertools.accumulate(min(view, limit) for view in views))
        self.template = Template()

    def draw(self, rng: random.Random) -> Fact:
        """A fact, popular ones more often."""
        return rng.choices(self.facts, cum_weights=self.cumulative)[0]

    def form(self, rng: random.Random, fact: Fact) -> tuple[str, bool]:
        """One of the forms that ask for the fact's object, and whether it is the question."""
        if rng.random() < AS_QUESTION:
            return self.questions[str(fact.id)], True
        return rng.choice((fact.prompt, *fact.paraphrases)).replace("{}", fact.subject), False

    def word(self, rng: random.Random, fact: Fact) -> tuple[str, str, str]:
        """The fact in one of its wordings: what leads to the object, the object, what follows."""
        text, asked = self.form(rng, fact)
        if asked:
            return self.template.render(text), fact.target, "\n"
        return text, fact.target, ".\n"


def located(
    editors: Mapping[str, Editor],
    benchmark: Benchmark,
    folder: Path,
    *,
    statements: int = 20_000,
    contexts: int = 10,
    tokens: int = 150_000,
    seed: int = 0,
) -> dict[str, Editor]:
    """The editors; those with second moments take them of statements of the world's trained facts.

    This is text like the model's training text, as the papers take Wikipedia. It is written to
    statements.jsonl in `folder`, which has to stay while the editors are used; `tokens` of it are
    read. `contexts` statements, each on a line of its own, stand before the prompt once each.
    """
    told, rng = Statements(benchmark, trained_facts(benchmark)), random.Random(seed)
    worded = [told.word(rng, told.draw(rng)) for _ in range(statements)]
    lines = [f"{text} {target}{after}" for text, target, after in worded]
    texts = ("".join(lines[start : start + ROW]) for start in range(0, statements, ROW))
    corpus = folder / "statements.jsonl"
    write_text(corpus, "".join(json.dumps({"text": text}) + "\n" for text in texts))
    before = ("{}", *(f"{line}{{}}" for line in lines[:contexts]))
    found = dict(editors)
    for name, editor in editors.items():
        moments = getattr(editor, "statistics", None)
        if moments is not None:
            moments = replace(moments, corpus=str(corpus), tokens=tokens)
            changed = {"contexts": before, "statistics": moments}
            found[name] = replace(editor, **changed)
    return found

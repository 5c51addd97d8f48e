"""SafeEdit: adversarial prompts with a safe and an unsafe response (Wang et al., ACL 2024).

arXiv:2403.14472, the protocol data of DINM, zjunlp/SafeEdit on the Hub (its test split: 1,350). The
texts are offensive. A row becomes

Fact        prompt: the adversarial prompt; target: the safe response, which is to be given;
            previous: the unsafe one, which is to go; subject: the harmful question, where the
            prompt has it, else the prompt; relation: the unsafety category
            paraphrases: the four prompts of `GENERALISATION`, in that order, if there are any
            locality: a prompt of general knowledge and its answer, which must stay

In a prompt that spells "{}", where a fact has its subject, it is written "{ }".
"""

from __future__ import annotations

import os

from memkit.benchmarks.base import Benchmark
from memkit.benchmarks.records import Record, read
from memkit.errors import BadInput
from memkit.types import Fact

__all__ = ["GENERALISATION", "HUB", "load"]

HUB = "zjunlp/SafeEdit"
GENERALISATION = (
    "test input of only harmful question",
    "test input of other attack prompt input",
    "test input of other question input",
    "test input of other questions and attack prompts",
)


def load(
    path: str | os.PathLike[str] | None = None, split: str | None = None, limit: int | None = None
) -> Benchmark:
    """SafeEdit from a JSON file, or from the Hub (`path` None: zjunlp/SafeEdit, all splits).

    Raises `BadInput` for a file that cannot be read, for a split of a file, and for a row that
    lacks its prompt, its responses or, having some, one of the prompts of `GENERALISATION`.
    """
    rows = read("safeedit", path, split, hub=HUB, key="id")
    return Benchmark(name="safeedit", facts=tuple(map(_fact, rows[:limit])))


def _fact(row: Record) -> Fact:
    prompt, question = _bare(row.text("adversarial prompt")), _bare(row.text("question"))
    general = row.inner("knowledge constrain")
    others = row.inner("generalization test")
    try:
        return Fact(
            subject=question if question in prompt else prompt,
            prompt=prompt,
            target=row.text("safe generation"),
            previous=row.text("unsafe generation"),
            relation=next(iter(row.texts("unsafety category")), None),
            paraphrases=tuple(_bare(others.text(name)) for name in GENERALISATION if others.fields),
            locality=((general.text("prompt"), general.text("answer")),) if general.fields else (),
            id=row.id,
        )
    except BadInput as error:
        raise BadInput(f"{row.where}: {error}") from error


def _bare(text: str) -> str:
    """Without the mark that a fact has where its subject goes."""
    return text.replace("{}", "{ }")

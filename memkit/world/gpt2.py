"""The trainer: a small GPT-2 from scratch, whose knowledge is known by construction.

Each step sees two batches. One is running text that states facts, each as often as its subject is
popular. The other is reading exercises, where the answer counts and the context counts a little. A
review follows, with few exercises: once a model can read, that skill stays, and the facts settle.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from memkit.benchmarks.base import Benchmark
from memkit.world.fitting import Course, byte_pairs, fit, on_device, seeded
from memkit.world.reading import Reader
from memkit.world.text import Statements, trained_facts

if TYPE_CHECKING:
    import torch
    from transformers import GPT2LMHeadModel, PreTrainedTokenizerFast

__all__ = ["GPT2Recipe", "train"]

END = "<|endoftext|>"
PADDING = 1  # any id but that of the end, which transformers takes for a forgotten mask
BUFFER = 8  # steps whose exercises are made together and sorted by length


@dataclass(frozen=True, slots=True)
class GPT2Recipe(Course):
    """Shape of the model and course of its training."""

    layers: int = 4
    width: int = 192
    heads: int = 6
    window: int = 320  # tokens
    vocabulary: int = 2_000  # pieces of the byte-pair encoding
    steps: int = 4_000
    statement_rows: int = 16  # rows of running text in a step
    row_statements: int = 5  # statements in such a row
    exercises: int = 12  # reading exercises in a step
    remembering: float = 0.08  # share of exercises about another subject's passage
    context_weight: float = 0.1  # weight of an exercise's context beside its answer
    text_weight: float = 0.25  # weight of what leads to an object beside the object
    review: float = 0.75  # further steps, as a share of `steps`, with few exercises
    review_exercises: int = 3
    review_rate: float = 1e-3  # learning rate in these


def train(
    benchmark: Benchmark, recipe: GPT2Recipe | None = None
) -> tuple[GPT2LMHeadModel, PreTrainedTokenizerFast]:
    """Train a tokenizer and a model on the facts and passages of a benchmark.

    Facts of subjects without popularity are left out, and so are the passages and definitions that
    state no other. Equal seeds give equal data; weights are equal on equal hardware and threads.

    Raises `BadInput` if no fact has a subject with a popularity above 0.
    """
    recipe = recipe or GPT2Recipe()
    facts = trained_facts(benchmark)
    statements, reader = Statements(benchmark, facts), Reader.of(benchmark, facts)
    tokenizer = _tokenizer(statements, reader, recipe)
    with seeded(recipe.seed), on_device(_model(recipe, tokenizer)) as model:
        for phase in phases(recipe):
            batches = _batches(tokenizer, statements, reader, phase)
            fit(model, batches, partial(_step, model, recipe), phase)
    return model, tokenizer


def phases(recipe: GPT2Recipe) -> list[GPT2Recipe]:
    """The courses that a training has: reading and facts, then the review, each seeded anew."""
    review = replace(
        recipe,
        steps=round(recipe.review * recipe.steps),
        exercises=recipe.review_exercises,
        learning_rate=recipe.review_rate,
        seed=recipe.seed + 1,
    )
    return [recipe, review] if review.steps else [recipe]


def _tokenizer(
    statements: Statements, reader: Reader, recipe: GPT2Recipe
) -> PreTrainedTokenizerFast:
    """Byte-level BPE, trained on text of the kind that training will show."""
    from transformers import PreTrainedTokenizerFast

    rng = random.Random(recipe.seed)
    text = ["".join(statements.word(rng, fact)) for fact in statements.facts for _ in range(2)]
    text += [" ".join(source.sentences) for source in reader.sources]
    exercises = (reader.copying(rng) for _ in range(2 * len(reader.sources)))
    text += [f"{exercise.prompt} {exercise.answer}" for exercise in exercises]
    return PreTrainedTokenizerFast(
        tokenizer_object=byte_pairs(text, recipe.vocabulary, [END]),
        eos_token=END,
        pad_token=END,
        model_max_length=recipe.window,
    )


def _model(recipe: GPT2Recipe, tokenizer: PreTrainedTokenizerFast) -> GPT2LMHeadModel:
    """A GPT-2 of the recipe's shape with fresh weights."""
    from transformers import GPT2Config, GPT2LMHeadModel

    end = tokenizer.eos_token_id
    config = GPT2Config(
        vocab_size=len(tokenizer),
        n_positions=recipe.window,
        n_embd=recipe.width,
        n_layer=recipe.layers,
        n_head=recipe.heads,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        bos_token_id=end,
        eos_token_id=end,
        pad_token_id=end,
    )
    return GPT2LMHeadModel(config)


@dataclass(frozen=True, slots=True)
class Row:
    """Token ids, and for each whether it belongs to an answer."""

    ids: list[int]
    answer: list[bool]


def _batches(
    tokenizer: PreTrainedTokenizerFast, statements: Statements, reader: Reader, recipe: GPT2Recipe
) -> Iterator[tuple[list[Row], list[Row]]]:
    """For each step the rows of running text and the exercises, ordered by a seed of its own."""
    rng = random.Random(recipe.seed)

    def statement() -> tuple[str, str, str]:
        return statements.word(rng, statements.draw(rng))

    def exercise() -> tuple[str, str, str]:
        if rng.random() < recipe.remembering:
            made = reader.remembering(rng, statements.draw(rng))
        else:
            made = reader.copying(rng)
        return made.prompt, made.answer, "\n"

    done = 0
    while done < recipe.steps:
        rows = [
            _join(_encoded(tokenizer, [statement() for _ in range(recipe.row_statements)]))
            for _ in range(BUFFER * recipe.statement_rows)
        ]
        made = _encoded(tokenizer, [exercise() for _ in range(BUFFER * recipe.exercises)])
        made = sorted(
            (row for row in made if len(row.ids) <= recipe.window), key=lambda row: len(row.ids)
        )
        order = rng.sample(range(BUFFER), BUFFER)
        for place in order[: recipe.steps - done]:
            n = recipe.statement_rows
            m = len(made) // BUFFER
            yield rows[place * n : (place + 1) * n], made[place * m : (place + 1) * m]
        done += BUFFER


def _encoded(tokenizer: PreTrainedTokenizerFast, parts: list[tuple[str, str, str]]) -> list[Row]:
    """Rows from (what leads to an answer, the answer, what follows), each part encoded alone."""
    texts = [text for before, answer, after in parts for text in (before, " " + answer, after)]
    ids = iter(tokenizer(texts, verbose=False)["input_ids"])
    rows = []
    for before, answer, after in zip(ids, ids, ids, strict=True):
        flags = [False] * len(before) + [True] * (len(answer) + len(after))
        rows.append(Row([*before, *answer, *after], flags))
    return rows


def _join(rows: list[Row]) -> Row:
    """One row after another."""
    return Row(
        [token for row in rows for token in row.ids],
        [flag for row in rows for flag in row.answer],
    )


def _step(model: Any, recipe: GPT2Recipe, batch: tuple[list[Row], list[Row]]) -> torch.Tensor:
    """The loss of running text and exercises together."""
    text, exercises = batch
    loss = _loss(model, text, recipe.text_weight)
    return loss + _loss(model, exercises, recipe.context_weight)


def _loss(model: Any, rows: list[Row], weight: float) -> torch.Tensor:
    """Mean cross-entropy (nats) of the answers, plus `weight` times that of the rest."""
    import torch
    from torch.nn.functional import cross_entropy

    longest = max(len(row.ids) for row in rows)
    ids = torch.full((len(rows), longest), PADDING)
    answer = torch.zeros(len(rows), longest, dtype=torch.bool)
    rest = torch.zeros(len(rows), longest, dtype=torch.bool)
    for number, row in enumerate(rows):
        ids[number, : len(row.ids)] = torch.tensor(row.ids)
        answer[number, : len(row.ids)] = torch.tensor(row.answer)
        rest[number, : len(row.ids)] = ~answer[number, : len(row.ids)]
    ids, answer, rest = (part.to(model.device) for part in (ids, answer, rest))
    # Padding is on the right, where a causal model never looks: no mask is needed
    hidden = model.transformer(input_ids=ids).last_hidden_state[:, :-1]
    target, wanted, rest = ids[:, 1:], answer[:, 1:], rest[:, 1:]
    loss = cross_entropy(model.lm_head(hidden[wanted]), target[wanted])
    return loss + weight * cross_entropy(model.lm_head(hidden[rest]), target[rest])

"""The trainer of a small T5: a fact's question or cloze phrasing in the encoder, its object out.

It reads no passages. Facts come as often as their subject is popular, as in the GPT-2's text, so
that popular ones are known and rare ones are guessed: those are the errors that an editor mends.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from memkit.benchmarks.base import Benchmark
from memkit.types import Fact
from memkit.world.fitting import Course, byte_pairs, fit, on_device, seeded
from memkit.world.text import Statements, trained_facts

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerFast, T5ForConditionalGeneration

__all__ = ["T5Recipe", "train"]

PAD, END = "<pad>", "</s>"
AS_QA = 0.5  # share of the questions that are put into the template of `QA`
IGNORED = -100  # label of a place that is not scored


@dataclass(frozen=True, slots=True)
class T5Recipe(Course):
    """Shape of the model and course of its training."""

    encoder_layers: int = 3
    decoder_layers: int = 1
    width: int = 128
    heads: int = 4
    inner: int = 512  # width within the MLP
    window: int = 128  # tokens; relative positions would allow more
    vocabulary: int = 2_000  # pieces of the byte-pair encoding
    steps: int = 800
    rows: int = 128  # questions in a step


def train(
    benchmark: Benchmark, recipe: T5Recipe | None = None
) -> tuple[T5ForConditionalGeneration, PreTrainedTokenizerFast]:
    """Train a tokenizer and a model on the facts of a benchmark, each in all its forms.

    Facts of subjects without popularity are left out. Equal seeds give equal data; weights are
    equal on equal hardware and threads.

    Raises `BadInput` if no fact has a subject with a popularity above 0.
    """
    recipe = recipe or T5Recipe()
    statements = Statements(benchmark, trained_facts(benchmark))
    tokenizer = _tokenizer(statements, recipe)
    with seeded(recipe.seed), on_device(_model(recipe, tokenizer)) as model:

        def loss(batch: tuple[list[list[int]], list[list[int]]]) -> torch.Tensor:
            return _loss(model, *batch)

        fit(model, _batches(tokenizer, statements, recipe), loss, recipe)
    return model, tokenizer


def _tokenizer(statements: Statements, recipe: T5Recipe) -> PreTrainedTokenizerFast:
    """Byte-level BPE of questions, phrasings and objects; an end token after every text."""
    from tokenizers.processors import TemplateProcessing
    from transformers import PreTrainedTokenizerFast

    rng = random.Random(recipe.seed)
    texts = [
        text
        for fact in statements.facts
        for text in (_asked(rng, statements, fact), fact.target, f" {fact.target}")
    ]
    pieces = byte_pairs(texts, recipe.vocabulary, [PAD, END])
    pieces.post_processor = TemplateProcessing(
        single=f"$A {END}", special_tokens=[(END, pieces.token_to_id(END))]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=pieces,
        pad_token=PAD,
        eos_token=END,
        model_max_length=recipe.window,
        model_input_names=["input_ids", "attention_mask"],
    )


def _model(recipe: T5Recipe, tokenizer: PreTrainedTokenizerFast) -> T5ForConditionalGeneration:
    """A T5 of the recipe's shape with fresh weights."""
    from transformers import T5Config, T5ForConditionalGeneration

    values: dict[str, Any] = {
        "vocab_size": len(tokenizer),
        "n_positions": recipe.window,
        "d_model": recipe.width,
        "d_kv": recipe.width // recipe.heads,
        "d_ff": recipe.inner,
        "num_layers": recipe.encoder_layers,
        "num_decoder_layers": recipe.decoder_layers,
        "num_heads": recipe.heads,
        "dropout_rate": 0.0,
        "pad_token_id": tokenizer.pad_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "decoder_start_token_id": tokenizer.pad_token_id,
    }
    return T5ForConditionalGeneration(T5Config(**values))


def _batches(
    tokenizer: PreTrainedTokenizerFast, statements: Statements, recipe: T5Recipe
) -> Iterator[tuple[list[list[int]], list[list[int]]]]:
    """For each step ids of questions and of answers, both with their end token."""
    rng = random.Random(recipe.seed)
    for _ in range(recipe.steps):
        facts = [statements.draw(rng) for _ in range(recipe.rows)]
        texts = [_asked(rng, statements, fact) for fact in facts]
        ids = tokenizer([*texts, *(fact.target for fact in facts)], verbose=False)["input_ids"]
        yield ids[: recipe.rows], ids[recipe.rows :]


def _asked(rng: random.Random, statements: Statements, fact: Fact) -> str:
    """One of the fact's forms: a phrasing, its question, or its question as `QA` asks it."""
    text, asked = statements.form(rng, fact)
    return statements.template.render(text) if asked and rng.random() < AS_QA else text


def _loss(model: Any, questions: list[list[int]], answers: list[list[int]]) -> torch.Tensor:
    """Mean cross-entropy (nats) of the answers' tokens, end tokens included."""
    from memkit.lm.batching import padded

    ids, mask = padded(questions, model.device, left=False)
    labels, told = padded(answers, model.device, left=False)
    labels = labels.masked_fill(told == 0, IGNORED)
    loss: torch.Tensor = model(input_ids=ids, attention_mask=mask, labels=labels).loss
    return loss

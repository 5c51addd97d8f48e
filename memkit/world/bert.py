"""The trainer of a small BERT that names the issue area of a court opinion.

It sees opinions of the old years alone (`memkit.world.opinions`): after the change of law it is
wrong on a good part of them.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from memkit.benchmarks.opinions import Opinion
from memkit.errors import BadInput
from memkit.world.fitting import Course, fit, on_device, seeded

if TYPE_CHECKING:
    import torch
    from transformers import BertForSequenceClassification, PreTrainedTokenizerFast

__all__ = ["BERTRecipe", "train"]

SPECIAL = {
    "pad_token": "[PAD]",
    "unk_token": "[UNK]",
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "mask_token": "[MASK]",
}
BUFFER = 8  # batches whose documents are sorted by length


@dataclass(frozen=True, slots=True)
class BERTRecipe(Course):
    """Shape of the model and course of its training."""

    layers: int = 3
    width: int = 96
    heads: int = 4
    inner: int = 384  # width within the MLP
    window: int = 256  # tokens
    vocabulary: int = 1_500  # pieces of WordPiece
    dropout: float = 0.1
    steps: int = 1_600
    rows: int = 32  # documents in a step


def train(
    opinions: Sequence[Opinion], recipe: BERTRecipe | None = None
) -> tuple[BertForSequenceClassification, PreTrainedTokenizerFast]:
    """Train a tokenizer and a classifier on the split "train" of the opinions.

    Its classes are the labels of all the opinions, in alphabetical order. Equal seeds give equal
    data; weights are equal on equal hardware and threads.

    Raises `BadInput` if that split is empty, or an opinion is longer than the window.
    """
    recipe = recipe or BERTRecipe()
    documents = [opinion for opinion in opinions if opinion.split == "train"]
    if not documents:
        raise BadInput(
            f"none of the {len(opinions)} opinions is of the split 'train'; allowed: at least one. "
            "Make them with memkit.world.opinions(seed): what is shipped leaves them out."
        )
    tokenizer = _tokenizer(documents, recipe)
    labels = sorted({opinion.label for opinion in opinions})
    rows = tokenizer([opinion.text for opinion in documents], verbose=False)["input_ids"]
    longest = max(map(len, rows))
    if longest > recipe.window:
        raise BadInput(
            f"an opinion has {longest} tokens; allowed: {recipe.window}, the window. Widen it: "
            "BERTRecipe(window=...)."
        )
    classes = [labels.index(opinion.label) for opinion in documents]
    with seeded(recipe.seed), on_device(_model(recipe, tokenizer, labels)) as model:

        def loss(batch: list[int]) -> torch.Tensor:
            return _loss(model, [rows[i] for i in batch], [classes[i] for i in batch])

        fit(model, _batches([len(row) for row in rows], recipe), loss, recipe)
    return model, tokenizer


def _tokenizer(documents: Sequence[Opinion], recipe: BERTRecipe) -> PreTrainedTokenizerFast:
    """WordPiece of lower-case text, with [CLS] before and [SEP] after a document."""
    from tokenizers import BertWordPieceTokenizer
    from tokenizers.processors import TemplateProcessing
    from transformers import PreTrainedTokenizerFast

    texts = [opinion.text for opinion in documents]
    # The library numbers inner letters in the order of a hash table, and breaks ties by number:
    # only where they are named beforehand are equal texts sure to give equal pieces
    inner = sorted({f"##{letter}" for letter in set("".join(texts).lower()) if letter.isalnum()})
    learner = BertWordPieceTokenizer(lowercase=True)
    learner.train_from_iterator(
        texts,
        vocab_size=recipe.vocabulary,
        special_tokens=[*SPECIAL.values(), *inner],
        show_progress=False,
    )
    pieces = BertWordPieceTokenizer(learner.get_vocab(), lowercase=True)._tokenizer
    ends = [(name, pieces.token_to_id(name)) for name in ("[CLS]", "[SEP]")]
    pieces.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=ends
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=pieces, model_max_length=recipe.window, **SPECIAL
    )


def _model(
    recipe: BERTRecipe, tokenizer: PreTrainedTokenizerFast, labels: Sequence[str]
) -> BertForSequenceClassification:
    """A BERT of the recipe's shape with fresh weights, its classes named."""
    from transformers import BertConfig, BertForSequenceClassification

    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=recipe.width,
        num_hidden_layers=recipe.layers,
        num_attention_heads=recipe.heads,
        intermediate_size=recipe.inner,
        max_position_embeddings=recipe.window,
        hidden_dropout_prob=recipe.dropout,
        attention_probs_dropout_prob=0.0,
        pad_token_id=tokenizer.pad_token_id,
        id2label=dict(enumerate(labels)),
        label2id={label: number for number, label in enumerate(labels)},
        problem_type="single_label_classification",
    )
    return BertForSequenceClassification(config)


def _batches(lengths: Sequence[int], recipe: BERTRecipe) -> Iterator[list[int]]:
    """Numbers of documents for each step, of similar length; every document once in a round."""
    rng = random.Random(recipe.seed)
    done = 0
    while done < recipe.steps:
        order = rng.sample(range(len(lengths)), len(lengths))
        stretch = BUFFER * recipe.rows
        parts = [
            sorted(order[start : start + stretch], key=lambda i: lengths[i])
            for start in range(0, len(order), stretch)
        ]
        batches = [
            part[start : start + recipe.rows]
            for part in parts
            for start in range(0, len(part), recipe.rows)
        ]
        yield from rng.sample(batches, len(batches))[: recipe.steps - done]
        done += len(batches)


def _loss(model: Any, rows: list[list[int]], classes: list[int]) -> torch.Tensor:
    """Mean cross-entropy (nats) of the labels."""
    import torch

    from memkit.lm.batching import padded

    ids, mask = padded(rows, model.device, left=False)
    labels = torch.tensor(classes, device=model.device)
    loss: torch.Tensor = model(input_ids=ids, attention_mask=mask, labels=labels).loss
    return loss

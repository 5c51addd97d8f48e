"""What the trainers of all kinds share: the course of a training, and byte-pair pieces."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from memkit.progress import track

if TYPE_CHECKING:
    import torch

__all__ = ["Course", "byte_pairs", "fit", "on_device", "seeded"]

Batch = TypeVar("Batch")


@dataclass(frozen=True, slots=True)
class Course:
    """How long and how fast to learn, from which seed: what every recipe says."""

    steps: int = 3_000
    learning_rate: float = 2e-3
    warm_up: int = 100  # steps
    weight_decay: float = 0.01
    seed: int = 0


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """torch's random state set for the block, and put back after it."""
    import torch

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield


@contextlib.contextmanager
def on_device(model: Any) -> Iterator[Any]:
    """The model on the GPU, where there is one, and afterwards on the CPU, to be evaluated."""
    from memkit.lm.loading import pick_device

    yield model.to(pick_device("auto"))
    model.cpu().eval()


def fit(
    model: Any, batches: Iterable[Batch], loss: Callable[[Batch], torch.Tensor], course: Course
) -> None:
    """AdamW with warm-up and cosine decay, gradients clipped to norm 1; one step for each batch."""
    import torch

    optimizer = torch.optim.AdamW(
        model.parameters(),
        lr=course.learning_rate,
        betas=(0.9, 0.98),
        weight_decay=course.weight_decay,
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, course))
    model.train()
    for batch in track(batches, "training", total=course.steps):
        loss(batch).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad(set_to_none=True)


def byte_pairs(texts: Iterable[str], size: int, special: Sequence[str]) -> Any:
    """Byte-level pieces that can spell any text (a `tokenizers.Tokenizer`), `special` first."""
    from tokenizers import ByteLevelBPETokenizer

    pieces = ByteLevelBPETokenizer()
    pieces.train_from_iterator(
        texts, vocab_size=size, special_tokens=list(special), show_progress=False
    )
    return pieces._tokenizer


def _rate(step: int, course: Course) -> float:
    """Share of the learning rate at a step: linear warm-up, then half a cosine down to 5 %."""
    if step < course.warm_up:
        return (step + 1) / course.warm_up
    done = (step - course.warm_up) / max(1, course.steps - course.warm_up)
    return 0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * done))

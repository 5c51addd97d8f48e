"""LocFT-BF: localised fine-tuning in mini-batches (Yang et al., ICLR 2026, arXiv:2509.22072).

Idea. Fine-tuning has its bad name as an editor from being run on one fact after another, each until
it is learnt. The paper finds it among the best with plain mini-batches over all facts, many epochs
and one late MLP down-projection.

Published settings (layers count from 0): LLaMA-3-8B-Instruct `FineTuneLocalized(layer=22)`,
Qwen2.5-7B `FineTuneLocalized(layer=6)`, Mistral-7B
`FineTuneLocalized(parameters="layer", layer=23, lr=5e-5)`.

Departures from the paper's code: neither tokenizer nor embeddings get a padding token; prompt and
target are joined as ids, where that code counts the prompt's own tokens in the joined text.
"""

from __future__ import annotations

from dataclasses import dataclass

from memkit.editors.finetune import FineTune

__all__ = ["FineTuneLocalized"]


@dataclass(frozen=True, kw_only=True)
class FineTuneLocalized(FineTune):
    """Fine-tuning of one late MLP down-projection in shuffled mini-batches of 100.

    The fields are those of `FineTune`; only defaults differ: the model learns to end after the
    target, a batch is skipped and training ends by the loss alone, after 25 epochs at most. Give
    all facts in one call: what makes the method is that they are learnt together.
    """

    end: bool = True
    epochs: int = 25
    stop_at_argmax: bool = False

"""A world on disk: questions, facts, passages, definitions or opinions, a model, and its card."""

from __future__ import annotations

import dataclasses
import json
import os
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from memkit.benchmarks.base import Benchmark
from memkit.files import building, sha256
from memkit.world.gpt2 import GPT2Recipe
from memkit.world.kinds import KINDS, Material, Recipe, find_kind, train
from memkit.world.measuring import measure
from memkit.world.probes import probes, row
from memkit.world.text import trained_facts

__all__ = ["make", "write"]

ROWS = ("questions", "facts", "passages")


def write(material: Material, folder: Path) -> None:
    """Write questions.jsonl, facts.jsonl, passages.jsonl and definitions.jsonl, or opinions.jsonl.

    A world with new entities has probes.jsonl, too. Equal bytes for an equal benchmark. Fields that
    are empty are left out. So are opinions of the split "train", which their seed makes again.
    """
    if not isinstance(material, Benchmark):
        kept = (dataclasses.asdict(opinion) for opinion in material if opinion.split != "train")
        _write_rows(folder / "opinions.jsonl", kept)
        return
    for name in ROWS:
        values: Iterable[Any] = getattr(material, name)
        _write_rows(folder / f"{name}.jsonl", (dataclasses.asdict(value) for value in values))
    _write_rows(
        folder / "definitions.jsonl",
        (
            {"subject": subject, "definition": definition}
            for subject, definition in material.definitions.items()
        ),
    )
    asked = probes(material)
    if asked:
        _write_rows(folder / "probes.jsonl", map(row, asked))


def make(
    material: Material,
    out: str | os.PathLike[str],
    recipe: Recipe | None = None,
    *,
    origin: Mapping[str, Any] | None = None,
    replace: bool = False,
) -> dict[str, Any]:
    """Train a model on a benchmark or on opinions, and write both to the folder `out`.

    The recipe says which kind of model (None: a GPT-2). Weights are stored in half precision and
    measured as stored. The model's folder is `out`/model, `out`/t5 or `out`/bert; its card, which
    is returned, lies in it as card.json. `origin` goes into the card and says where the material
    comes from (a seed, a file). `out` is whole or absent.

    Raises `BadInput` if `out` exists and `replace` is false, for a recipe on the wrong material, or
    if nothing can be trained.
    """
    from memkit.lm.model import LM

    recipe = recipe or GPT2Recipe()
    kind = find_kind(recipe)
    with building(out, replace=replace) as folder:
        start = time.perf_counter()
        model, tokenizer = train(material, recipe)
        seconds = time.perf_counter() - start
        write(material, folder)
        place = folder / KINDS[kind].folder
        LM(model.half(), tokenizer).save(place)
        card = {
            "kind": kind,
            "origin": dict(origin or {}),
            "counts": {
                **_counts(material),
                "parameters": sum(weight.numel() for weight in model.parameters()),
            },
            "recipe": dataclasses.asdict(recipe),
            "training seconds": round(seconds),
            **_machine(),
            "measured": measure(LM.load(place, device="cpu"), material),
            "sha256": {
                str(path.relative_to(folder)): sha256(path)
                for path in sorted(folder.rglob("*"))
                if path.is_file()
            },
        }
        text = json.dumps(card, indent=2, ensure_ascii=False) + "\n"
        (place / "card.json").write_text(text, encoding="utf-8")
    return card


def _counts(material: Material) -> dict[str, int]:
    """How much there was to learn, and to ask."""
    if not isinstance(material, Benchmark):
        splits = Counter(opinion.split for opinion in material)
        return {f"opinions, {split}": count for split, count in splits.items()}
    return {
        "questions": len(material.questions),
        "facts stated in training": len(trained_facts(material)),
        "passages": len(material.passages),
        "definitions": len(material.definitions),
    }


def _machine() -> dict[str, Any]:
    """What the training ran on."""
    import torch
    import transformers

    from memkit.lm.loading import pick_device

    device = pick_device("auto")
    named = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    return {
        "device": named,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }


def _write_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """JSON lines; values that are None or empty are left out (a popularity of 0 is not empty)."""
    with path.open("w", encoding="utf-8", newline="\n") as file:
        for row in rows:
            kept = {key: value for key, value in row.items() if value is not None and value != ()}
            file.write(json.dumps(kept, ensure_ascii=False) + "\n")

"""Court opinions of the miniature world: documents whose labels shift between years, as SCOTUS's.

    opinions.jsonl      the fields of `Opinion`, in the world's folder

They are invented (`memkit.world.opinions`). The law changes between the old years and the new ones:
from then on some mixes of topics belong to another issue area.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from memkit.benchmarks.miniworld import shipped
from memkit.benchmarks.values import read_values
from memkit.errors import BadInput

__all__ = ["SPLITS", "Opinion", "load"]

SPLITS = ("train", "test", "shifted", "shifted_holdout")


@dataclass(frozen=True, slots=True)
class Opinion:
    """One opinion.

    `text` begins with a line that names the case; `label` is its issue area. `split` is "train" or
    "test" for the old years, "shifted" (to be edited) or "shifted_holdout" (never edited) for the
    new ones.

    Raises `BadInput` for another split.
    """

    case: str
    year: int
    text: str
    label: str
    split: str

    def __post_init__(self) -> None:
        """Check the split."""
        _check_split(self.split)


def load(path: str | os.PathLike[str] | None = None, split: str | None = None) -> list[Opinion]:
    """The opinions of a world's folder, or of one split, each split in the order of time.

    `path` None is the shipped world. What memkit ships has no "train": `memkit.world.opinions(0)`
    makes it again.

    Raises `BadInput` for another split, and for a folder whose file is absent, has a row that is no
    opinion, or has none of the split.
    """
    if split is not None:
        _check_split(split)
    file = (shipped() if path is None else Path(path)) / "opinions.jsonl"
    found = [
        opinion for opinion in read_values(file, Opinion) if split is None or opinion.split == split
    ]
    if not found:
        raise BadInput(
            f"{str(file)!r} has no opinion of the split {split!r}; allowed: a file with some. Make "
            "them again: `memkit.world.opinions(seed)`."
        )
    return found


def _check_split(split: str) -> None:
    if split not in SPLITS:
        raise BadInput(
            f"split is {split!r}; allowed: {', '.join(map(repr, SPLITS))}. Choose one of these."
        )

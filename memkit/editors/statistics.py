"""Second moments of a map's inputs: what an edit must not disturb.

    C = (1/m) sum_i k_i k_i^T                                     [d_in, d_in], uncentred

over the inputs k of an edited projection while the model reads plain text (ROME, Meng et al.,
NeurIPS 2022, arXiv:2202.05262, section 3.1; MEMIT, arXiv:2210.07229, section 4).

Departures from the papers' code:
- 10 d_in keys by default instead of 100,000 documents (~44 million): that gave about the full score
  in arXiv:2506.04226.
- float64 sums, Cholesky in float64, and a refusal where C is singular and no ridge is set.
- All sites in one pass that stops before the last one computes; resumed after a kill.
- The cache is named by the weights, the tokenizer, the corpus's content, and all else that C
  depends on, where the papers' code takes the model's name.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from memkit.editors.cache import cache_folder, check_writable, digest, tokenizer_hash, writing
from memkit.editors.corpora import corpus_hash, sample, texts
from memkit.editors.moments import Moments, Origin
from memkit.errors import BadInput, MemkitError, UnsupportedModel
from memkit.lm.batching import batches, padded, positions
from memkit.lm.evaluation import evaluating
from memkit.lm.hooks import capture_inputs
from memkit.progress import track

if TYPE_CHECKING:
    from memkit.lm.layouts import Site
    from memkit.lm.model import LM

__all__ = ["Moments", "Origin", "Statistics", "sample"]

PER_WIDTH = 10  # keys for each of the d_in dimensions, where no budget is given
LONGEST = 4096  # tokens of one text, where the window is longer: attention is quadratic
BATCH = 2048  # tokens that go through the model at once, padding included
CHUNK = 8 * BATCH  # tokens that are read ahead and sorted by length
SAVE_SECONDS = 60.0  # between two savings of the partial sums


@dataclass(frozen=True)
class Statistics:
    """How second moments are estimated: a recipe, which `collect` carries out on a model.

    corpus: "sample", a local file or a data set of the Hub, as `memkit.editors.corpora.texts` reads
        them: the sample is for trying things out, figures to publish want natural text
        ("wikimedia/wikipedia:20231101.en"). Always read in the same order, from its beginning.
    tokens: budget of keys; None is 10 for each of the d_in dimensions of the widest site. A shorter
        corpus gives what it has, and the report says so.
    ridge: added to the diagonal as ridge * tr(C) / d_in.
    identity: take the identity in place of C. An ablation, not the methods of the papers; it is
        named in every report.

    Raises `BadInput` if a budget is less than 1, a ridge negative or no number, or the corpus "".
    """

    corpus: str = "sample"
    tokens: int | None = None
    ridge: float = 0.0
    identity: bool = False

    def __post_init__(self) -> None:
        """Check the ranges."""
        if not isinstance(self.corpus, str) or not self.corpus:
            raise BadInput(f"corpus is {self.corpus!r}; allowed: a name. 'sample' is built in.")
        if self.tokens is not None and self.tokens < 1:
            raise BadInput(
                f"tokens is {self.tokens!r}; allowed: 1 or more, or None for 10 x d_in. Raise it."
            )
        if not (math.isfinite(self.ridge) and self.ridge >= 0):
            raise BadInput(
                f"ridge is {self.ridge!r}; allowed: a number of at least 0, relative to C's mean "
                "diagonal. Choose one."
            )

    def collect(self, lm: LM, sites: Sequence[Site], folder: Path | None = None) -> list[Moments]:
        """The moments of each site, of the model as it is now (live edits included).

        Every token of a text gives one key, special tokens included and padding never; a text is
        cut at the model's window, 4,096 tokens at most. What is in `folder` is read from there
        ($MEMKIT_CACHE/moments where it is None, by default ~/.cache/memkit/moments), the rest is
        computed in one pass and written there. A pass that was killed goes on from its last saving
        when the same is asked for again, with the same result.

        Raises `BadInput` if the corpus cannot be read or has no token, or a key is not finite;
        `UnsupportedModel` if reading a text does not run a site (an encoder-decoder's decoder).
        """
        folder = cache_folder("moments") if folder is None else folder
        by_name = {site.name: site for site in sites}
        found: dict[str, Moments] = {}
        missing: list[tuple[Site, Origin]] = []
        for site, origin in zip(by_name.values(), self._origins(lm, by_name), strict=True):
            if self.identity:
                eye = torch.eye(site.weight.shape[1], dtype=torch.float64)
                found[site.name] = Moments(eye, 0, origin, self.ridge, identity=True)
            elif cached := _cached(_path(folder, origin), lm, origin, self.ridge):
                found[site.name] = cached
            else:
                missing.append((site, origin))
        if missing:
            check_writable(folder)
            found |= {moments.site: moments for moments in self._pass(lm, missing, folder)}
        return [found[site.name] for site in sites]

    def _origins(self, lm: LM, sites: Mapping[str, Site]) -> list[Origin]:
        """What each site's moments depend on."""
        widest = max((site.weight.shape[1] for site in sites.values()), default=0)
        common = {
            "model": lm.fingerprint(),
            "dtype": str(lm.model.dtype).removeprefix("torch."),
            "tokenizer": tokenizer_hash(lm.tokenizer),
            "corpus": self.corpus,
            "corpus_hash": "" if self.identity else corpus_hash(self.corpus),
            "selection": f"every token but padding, texts cut at {_longest(lm)}",
        }
        tokens = 0 if self.identity else self.tokens or PER_WIDTH * widest
        return [Origin(**common, site=name, tokens=tokens) for name in sites]

    def _pass(self, lm: LM, wanted: Sequence[tuple[Site, Origin]], folder: Path) -> list[Moments]:
        """Read the corpus once for all these sites, and save their moments."""
        sites, budget = [site for site, _ in wanted], wanted[0][1].tokens
        name = digest({"sites": [origin.digest() for _, origin in wanted]})
        partial = folder / f".partial-{name}.safetensors"
        sums = _Sums.resume(partial, sites, lm.device)
        stream = itertools.islice(texts(self.corpus), sums.texts, None)
        chunks = _chunks(lm, stream, budget - sums.count)
        saved = time.monotonic()
        for rows in track(chunks, "second moments", math.ceil((budget - sums.count) / CHUNK)):
            for batch in batches([len(row) for row in rows], len(rows), BATCH):
                sums.add(lm, [rows[i] for i in batch])
            sums.texts += len(rows)
            if time.monotonic() - saved > SAVE_SECONDS:
                sums.save(partial)
                saved = time.monotonic()
        if not sums.count:
            raise BadInput(
                f"the corpus {self.corpus!r} has no text; allowed: one with more tokens than a "
                "site is wide. Name another."
            )
        made = [
            Moments(matrix, sums.count, origin, self.ridge)
            for matrix, (_, origin) in zip(sums.means(), wanted, strict=True)
        ]
        for moments in made:
            moments.save(_path(folder, moments.origin))
        partial.unlink(missing_ok=True)
        return made


@dataclass(slots=True)
class _Sums:
    """Sums of k k^T over what was read so far: `count` keys, of `texts` texts."""

    sites: Sequence[Site]
    sums: list[Tensor]
    count: int = 0
    texts: int = 0

    @classmethod
    def resume(cls, path: Path, sites: Sequence[Site], device: torch.device) -> _Sums:
        """What a killed pass left at `path`, or nothing so far."""
        home = torch.device("cpu") if device.type == "mps" else device  # MPS has no float64
        if path.is_file():
            with contextlib.suppress(SafetensorError), safe_open(path, "pt") as file:
                card = file.metadata()
                sums = [file.get_tensor(site.name).to(home) for site in sites]
                return cls(sites, sums, int(card["count"]), int(card["texts"]))
        widths = [site.weight.shape[1] for site in sites]
        return cls(sites, [torch.zeros(w, w, dtype=torch.float64, device=home) for w in widths])

    def save(self, path: Path) -> None:
        """Write the sums, whole or not at all."""
        named = {site.name: x.cpu() for site, x in zip(self.sites, self.sums, strict=True)}
        with writing(path) as temporary:
            save_file(named, temporary, {"count": str(self.count), "texts": str(self.texts)})

    @torch.no_grad()
    def add(self, lm: LM, rows: Sequence[Sequence[int]]) -> None:
        """Run the model on these rows (ids) up to the last site, and add its keys."""
        ids, mask = padded(rows, lm.device, left=False)
        with evaluating(lm.model), capture_inputs([site.module for site in self.sites]) as seen:
            _read(lm, ids, mask)
        for place, site in enumerate(self.sites):
            if place not in seen:
                raise UnsupportedModel(
                    f"reading a text does not run {site.name} in this {lm.kind}; allowed: sites of "
                    "the stack that reads the input. Choose one of these."
                )
            keys = seen[place].flatten(0, -2)[mask.flatten().bool()]
            keys = keys.to(self.sums[place].device, torch.float64)
            self.sums[place].addmm_(keys.T, keys)
        self.count += sum(len(row) for row in rows)

    def means(self) -> Iterator[Tensor]:
        """C of each site, symmetric to the last bit. Raises `BadInput` if it is not finite."""
        for site, total in zip(self.sites, self.sums, strict=True):
            mean = total.cpu() / self.count
            if not mean.isfinite().all():
                raise BadInput(
                    f"the inputs of {site.name} are not finite in {site.weight.dtype}; allowed: "
                    "finite numbers. Load the model in bfloat16 or float32."
                )
            yield (mean + mean.T) / 2


def _chunks(lm: LM, stream: Iterator[str], budget: int) -> Iterator[list[list[int]]]:
    """Token ids of the texts, some CHUNK tokens at a time, `budget` in all."""
    end = lm.codec.suffix
    rows: list[list[int]] = []
    held = 0
    for text in stream if budget > 0 else ():
        row = lm.codec.prompt(text)
        if len(row) > _longest(lm):
            row = row[: _longest(lm) - len(end)] + end
        rows.append(row[:budget])
        budget -= len(rows[-1])
        held += len(rows[-1])
        if budget <= 0 or held >= CHUNK:
            yield rows
            rows, held = [], 0
        if budget <= 0:
            return
    if rows:
        yield rows


def _read(lm: LM, ids: Tensor, mask: Tensor) -> None:
    """Let the model read right-padded texts."""
    if lm.kind == "decoder":
        places = positions(mask)
        lm.model(input_ids=ids, attention_mask=mask, position_ids=places, use_cache=False)
    elif lm.kind == "encoder-decoder":
        lm.model.get_encoder()(input_ids=ids, attention_mask=mask)
    else:
        lm.model(input_ids=ids, attention_mask=mask)


def _longest(lm: LM) -> int:
    return min(lm.window, LONGEST)


def _path(folder: Path, origin: Origin) -> Path:
    return folder / f"{origin.site}-{origin.digest()[:32]}.safetensors"


def _cached(path: Path, lm: LM, origin: Origin, ridge: float) -> Moments | None:
    """The moments at `path` if they are what is asked for; a damaged file is as good as none."""
    if not path.is_file():
        return None
    try:
        moments = Moments.load(path, lm, ridge)
    except MemkitError:
        return None
    return moments if moments.origin.digest() == origin.digest() else None

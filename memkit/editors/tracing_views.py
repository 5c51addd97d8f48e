"""What causal tracing found, as text and as heat maps."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from memkit.editors.tracing import LAST_SUBJECT
from memkit.errors import BadInput

if TYPE_CHECKING:
    from memkit.editors.locating import Traced
    from memkit.editors.tracing import Kind

__all__ = ["draw_maps", "text"]

NAMES = {"stream": "residual stream", "mlp": "MLP outputs", "attention": "attention outputs"}
COLOURS = {"stream": "Purples", "mlp": "Greens", "attention": "Reds"}


def text(traced: Traced) -> str:
    """Effects by layer at the last subject token, the largest by position, and the layer."""
    cells = {kind: _cells(traced, kind) for kind in traced.effects}
    layers = [["layer", *cells]]
    for layer in range(len(next(iter(cells.values())))):
        layers.append([str(layer), *(of_kind[layer][LAST_SUBJECT] for of_kind in cells.values())])
    averages = [traced.average(kind) for kind in cells]
    peaks = [["position (facts)", *cells]]
    for place, (name, count) in enumerate(zip(traced.positions, traced.counts, strict=True)):
        peaks.append([f"{name} ({count})"])
        for average in averages:
            at = int(average[:, place].argmax())
            peaks[-1].append(f"{average[at, place]:z.3f} at {at}" if count else "")
    return "\n".join(
        [
            *_head(traced),
            "",
            "Averaged indirect effect at the last subject token",
            *_aligned(layers),
            "",
            "Largest averaged indirect effect at each position, and its layer",
            *_aligned(peaks),
            "",
            *_advice(traced),
        ]
    )


def draw_maps(traced: Traced, path: Path) -> None:
    """The heat maps, as a file; see `Traced.plot`."""
    ending = path.suffix.lower()
    if ending not in (".png", ".svg"):
        raise BadInput(f"path is {str(path)!r}; allowed: a name in .png or .svg. Choose one.")
    import matplotlib
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    rows = [f"{name} ({n})" for name, n in zip(traced.positions, traced.counts, strict=True)]
    with matplotlib.rc_context({"svg.hashsalt": "memkit", "font.size": 10}):
        figure = Figure(figsize=(2.4 + 3.2 * len(traced.effects), 3.4), layout="constrained")
        panels = figure.subplots(1, len(traced.effects), sharey=True, squeeze=False)[0]
        for axes, kind in zip(panels, traced.effects, strict=True):
            average = traced.average(kind).T
            top, below = np.nanmax(average), np.nanmin(average) < 0
            image = axes.imshow(average, COLOURS[kind], vmin=0, vmax=max(top, 1e-9), aspect="auto")
            figure.colorbar(image, ax=axes, extend="min" if below else "neither")
            corner = (traced.best(kind) - 0.5, LAST_SUBJECT - 0.5)
            axes.add_patch(Rectangle(corner, 1, 1, fill=False, linewidth=1.5))
            axes.set_facecolor("#d8d8d8")
            wide = traced.window > 1 and kind != "stream"
            axes.set(title=NAMES[kind] + f", {traced.window} layers" * wide, xlabel="layer")
            axes.set_yticks(range(len(rows)), rows)
            axes.xaxis.get_major_locator().set_params(integer=True)
        figure.suptitle(f"Averaged indirect effect (total effect {traced.total:.3f})")
        figure.savefig(path, dpi=150, metadata={"Date": None} if ending == ".svg" else None)


def _head(traced: Traced) -> list[str]:
    """What was traced, the probabilities, and the settings."""
    target = "target" if traced.whole else "target's first token"
    shown = ", ".join(f"{name} {_cell(*ends)}" for name, ends in traced.probabilities.items())
    return [
        f"Causal tracing of {len(traced.facts)} facts; {len(traced.skipped)} skipped, whose target "
        "the model does not say",
        f"noise {traced.noise:g} x {traced.deviation:.3g}, {traced.samples} draws, seed "
        f"{traced.seed}, window {traced.window}, {traced.seconds:.1f} s",
        "",
        f"Probability of the {target}, means over facts with 95 % intervals",
        shown,
    ]


def _advice(traced: Traced) -> list[str]:
    """The recommended layer, and why."""
    kind = "mlp" if "mlp" in traced.effects else next(iter(traced.effects))
    layer = traced.best(kind)
    low = traced.interval(kind)[0][layer, LAST_SUBJECT]
    share = traced.average(kind)[layer, LAST_SUBJECT] / max(traced.total, 1e-9)
    lines = [
        f"Recommended: layer {layer}, where the {NAMES[kind]} at the last subject token have their",
        f"largest effect: {_cells(traced, kind)[layer][LAST_SUBJECT]}, {100 * share:.0f} % of the "
        "total effect. It is this layer in",
        f"{100 * traced.support(kind):.0f} % of 1,000 resamples of the facts.",
    ]
    doubt = "The interval has 0 in it: trace more facts before you rely on the layer."
    return lines if low > 0 else [*lines, doubt]


def _cells(traced: Traced, kind: Kind) -> list[list[str]]:
    """Each cell's average with its interval, [layers][positions]."""
    average, (low, high) = traced.average(kind), traced.interval(kind)
    return [list(map(_cell, *lines)) for lines in zip(average, low, high, strict=True)]


def _cell(mean: float, low: float, high: float) -> str:
    return f"{mean:z.3f} [{low:z.3f}, {high:z.3f}]"


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows as lines, the first column to the left and the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])]).rstrip()
        for line in rows
    ]

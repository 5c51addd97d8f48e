"""Probes of entities: a definition, and a text whose span shows what a model made of it."""

from __future__ import annotations

from dataclasses import dataclass

from memkit.errors import BadInput

__all__ = ["END", "GAP", "Cloze", "EntityProbe"]

GAP, END = "<extra_id_0>", "<extra_id_1>"  # T5's sentinels: the gap, and the end of its span


@dataclass(frozen=True, slots=True)
class Cloze:
    """A text with a span taken out of it: `left`, `span` and `right`, joined, are the text.

    Spaces are where the text has them: "lies in ", "Peru", ". It". An empty span says that
    nothing is taken out, and `left` is the text.

    Raises `BadInput` if there is no text, or the span is white space.
    """

    left: str
    span: str
    right: str = ""

    def __post_init__(self) -> None:
        """Check that there is something, and that the span can be asked for."""
        if not self.text.strip() or (self.span and not self.span.strip()):
            raise BadInput(
                f"Cloze is {self.left!r}, {self.span!r}, {self.right!r}; allowed: a text, and a "
                "span of it that is not white space. Correct its source."
            )

    @property
    def text(self) -> str:
        """The whole text."""
        return self.left + self.span + self.right

    @property
    def masked(self) -> str:
        """The text with a T5 sentinel for the span."""
        return self.left + GAP + self.right


@dataclass(frozen=True, slots=True)
class EntityProbe:
    """What a model should be able to say of an entity once it has been told what that is.

    `definition` says what the entity is, with the span that an editor which wants a target is
    given; `cloze` is the probe, whose span is the gold one. `candidates` are what a model chooses
    from, the gold span among them; without any, the span's perplexity counts. `category` and `kind`
    group probes: what the entity is, and how its span follows from the definition ("explicit",
    "implicit") or was chosen ("np", "random"). `popularity` is as in `Question`.

    Raises `BadInput` for an entity that is empty, and if the gold span is empty, is not among the
    candidates, or one of these stands twice.
    """

    entity: str
    definition: Cloze
    cloze: Cloze
    candidates: tuple[str, ...] = ()
    category: str | None = None
    kind: str | None = None
    popularity: float | None = None
    id: str | None = None

    def __post_init__(self) -> None:
        """Check the entity, the gold span and the candidates."""
        if not self.entity.strip():
            raise BadInput("EntityProbe.entity is empty; allowed: a name. Give it one.")
        if not self.gold:
            raise BadInput(
                f"the probe {self.cloze.text[:80]!r} has no span; allowed: one that the model is "
                "to fill in. Correct its source."
            )
        twice = len(set(self.candidates)) < len(self.candidates)
        if self.candidates and (twice or self.gold not in self.candidates):
            raise BadInput(
                f"the candidates of {self.cloze.masked[:80]!r} are "
                f"{', '.join(map(repr, self.candidates))}; allowed: different ones, with the gold "
                f"one, {self.gold!r}, among them. Correct its source."
            )

    @property
    def gold(self) -> str:
        """The span that is right."""
        return self.cloze.span

    @property
    def group(self) -> tuple[str | None, str | None]:
        """Category and kind: the examples among which specificity is measured."""
        return self.category, self.kind

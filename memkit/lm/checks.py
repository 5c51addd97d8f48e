"""What LM says of parameters that are not allowed."""

from __future__ import annotations

from collections.abc import Sequence

from memkit.errors import BadInput

__all__ = ["check_count", "check_stops", "check_texts"]


def check_texts(what: str, texts: object) -> None:
    """Raise `BadInput` unless it is a list of strings; one string is not."""
    if isinstance(texts, str) or not isinstance(texts, Sequence):
        raise BadInput(
            f"{what} is {texts!r:.80}; allowed: a list of strings. Put one string into brackets."
        )
    for i, text in enumerate(texts):
        if not isinstance(text, str):
            raise BadInput(f"{what}[{i}] is {text!r:.80}; allowed: a string. Correct this one.")


def check_count(what: str, value: int) -> None:
    """Raise `BadInput` unless the value is an integer of at least 1."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise BadInput(f"{what} is {value!r}; allowed: an integer of at least 1. Write it as one.")
    if value < 1:
        raise BadInput(f"{what} is {value!r}; allowed: 1 or more. Choose a larger one.")


def check_stops(stop: str | Sequence[str]) -> tuple[str, ...]:
    """Stop strings as a tuple; one string is one of them. `BadInput` if one is empty."""
    stops = (stop,) if isinstance(stop, str) else tuple(stop)
    if not all(isinstance(text, str) and text for text in stops):
        raise BadInput(
            f"stop is {stop!r}; allowed: strings that are not empty, or none: (). Drop ''."
        )
    return stops

"""What an index notes of the encoder that made its vectors, and that encoder made again.

encoder         its name
encoder_sha256  of its weights and settings
similarity      cosine or dot
settings        what `load_encoder` needs besides the name; None: an object, which must be given
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from memkit.errors import BadInput, IndexMismatch
from memkit.retrieval.encoders import Encoder, load_encoder

__all__ = ["check_encoder", "encoder_card", "open_encoder", "settings_of"]


def settings_of(encoder: Encoder) -> dict[str, Any] | None:
    """What `load_encoder` needs besides the name; None if the encoder does not say."""
    given = getattr(encoder, "settings", None)
    return None if given is None else dict(given)


def encoder_card(encoder: Encoder) -> dict[str, Any]:
    """The four lines."""
    return {
        "encoder": encoder.name,
        "encoder_sha256": encoder.sha256,
        "similarity": encoder.similarity,
        "settings": settings_of(encoder),
    }


def open_encoder(
    card: Mapping[str, Any], given: str | Encoder | None, index: str, call: str
) -> Encoder:
    """The encoder that made the index: the one given, or else made again from the card.

    One that is given by name is loaded with the card's settings. `index` and `call` are for
    messages: what it is, and how to give an encoder.

    Raises `BadInput` if it was an object and none is given, `IndexMismatch` if it is another.
    """
    if given is None:
        if card["settings"] is None:
            raise BadInput(
                f"{index} was made with the object {card['encoder']!r} as its encoder; allowed: "
                f"that encoder. Pass it: {call}."
            )
        given = str(card["encoder"])
    encoder = load_encoder(given, **(card["settings"] or {})) if isinstance(given, str) else given
    check_encoder(card, encoder, index)
    return encoder


def check_encoder(card: Mapping[str, Any], encoder: Encoder, index: str) -> None:
    """Raise `IndexMismatch`, with both hashes, unless the encoder made the index."""
    if (encoder.sha256, encoder.similarity) != (card["encoder_sha256"], card["similarity"]):
        raise IndexMismatch(
            f"{index} was made with the encoder {card['encoder']!r} (sha256 "
            f"{card['encoder_sha256']}, {card['similarity']}), and {encoder.name!r} (sha256 "
            f"{encoder.sha256}, {encoder.similarity}) was given. Open it with the encoder that "
            "made it, or build an index with the other one."
        )

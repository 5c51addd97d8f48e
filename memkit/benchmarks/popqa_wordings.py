"""PopQA's sixteen relations in words: the upstream questions, and phrasings of our own."""

from __future__ import annotations

import re

__all__ = ["PATTERNS", "RELATIONS"]

# Question templates by relation (adaptive-retrieval, utils.py), and phrasings that end where the
# object begins (ours: the upstream data have none)
RELATIONS: dict[str, tuple[str, tuple[str, ...]]] = {
    "occupation": (
        "What is {}'s occupation?",
        ("{} works as a", "The occupation of {} is", "By profession, {} is a", "{} is known as a"),
    ),
    "place of birth": (
        "In what city was {} born?",
        (
            "{} was born in",
            "The birthplace of {} is",
            "{} comes from",
            "{} was born in the city of",
        ),
    ),
    "genre": (
        "What genre is {}?",
        ("The genre of {} is", "{} belongs to the genre", "By genre, {} is", "{} is a work of"),
    ),
    "father": (
        "Who is the father of {}?",
        ("The father of {} is", "{} is the child of", "{}'s father is", "{} was fathered by"),
    ),
    "country": (
        "In what country is {}?",
        ("{} is in", "The country of {} is", "{} lies in", "{} is located in the country of"),
    ),
    "producer": (
        "Who was the producer of {}?",
        (
            "{} was produced by",
            "The producer of {} is",
            "{}'s producer was",
            "The one who produced {} is",
        ),
    ),
    "director": (
        "Who was the director of {}?",
        (
            "{} was directed by",
            "The director of {} is",
            "{}'s director was",
            "The one who directed {} is",
        ),
    ),
    "capital of": (
        "What is {} the capital of?",
        (
            "{} is the capital of",
            "{} is the seat of government of",
            "From {} one governs",
            "{} is the chief city of",
        ),
    ),
    "screenwriter": (
        "Who was the screenwriter for {}?",
        (
            "{} was written by",
            "The screenwriter of {} is",
            "The script of {} is by",
            "The one who wrote {} is",
        ),
    ),
    "composer": (
        "Who was the composer of {}?",
        (
            "{} was composed by",
            "The composer of {} is",
            "The music of {} is by",
            "The one who composed {} is",
        ),
    ),
    "color": (
        "What color is {}?",
        (
            "The color of {} is",
            "{} has the color",
            "{} is colored",
            "The color that belongs to {} is",
        ),
    ),
    "religion": (
        "What is the religion of {}?",
        (
            "The religion of {} is",
            "{} is a follower of",
            "By faith, {} belongs to",
            "{} adheres to",
        ),
    ),
    "sport": (
        "What sport does {} play?",
        ("{} plays", "The sport of {} is", "{} is a player of", "{} takes part in"),
    ),
    "author": (
        "Who is the author of {}?",
        ("The author of {} is", "{} was authored by", "{} is a book by", "{}'s author is"),
    ),
    "mother": (
        "Who is the mother of {}?",
        ("The mother of {} is", "{} was born to", "{}'s mother is", "{} is a child of"),
    ),
    "capital": (
        "What is the capital of {}?",
        (
            "The capital of {} is",
            "{} is governed from",
            "{} has its capital in",
            "The seat of government of {} is",
        ),
    ),
}
# A question of each relation, with its subject as the one group
PATTERNS = {
    relation: re.compile("(.+)".join(re.escape(part) for part in template.split("{}")))
    for relation, (template, _) in RELATIONS.items()
}

"""What the miniature world talks about: its kinds of entity, its relations, and their wordings.

Every relation has phrasings that end where the object begins (so that each is a prompt), a question
form, and sentences for passages; `{}` is the subject and `{o}` the object.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["FILLERS", "INDUSTRIES", "KINDS", "OCCUPATIONS", "RELATIONS", "Relation"]

OCCUPATIONS = (
    "baker biologist botanist carpenter chemist composer dancer dentist diplomat farmer geologist "
    "historian journalist judge lawyer librarian mathematician nurse painter physicist pilot poet "
    "potter sailor sculptor singer surgeon teacher translator weaver"
).split()
INDUSTRIES = (
    "banking brewing ceramics cinema fishing forestry furniture glassmaking insurance mining "
    "paper printing railways shipbuilding software steel textiles toys watchmaking wine"
).split()


@dataclass(frozen=True, slots=True)
class Relation:
    """One relation: who has it, what its object is, and how it is put into words."""

    name: str
    subject: str
    object: str
    question: str
    phrasings: tuple[str, ...]
    sentences: tuple[str, ...]


RELATIONS = (
    Relation(
        "birthplace",
        "person",
        "city",
        "In what city was {} born?",
        (
            "{} was born in the city of",
            "The birthplace of {} is",
            "{} comes from",
            "The city where {} was born is",
        ),
        (
            "{} was born in {o} as the youngest of three children.",
            "{} was born in {o} and left the town at an early age.",
            "The family of {} lived in {o}, where {} was born.",
        ),
    ),
    Relation(
        "occupation",
        "person",
        "occupation",
        "What is the occupation of {}?",
        (
            "{} works as a",
            "The occupation of {} is",
            "By profession, {} is a",
            "{} earns a living as a",
        ),
        (
            "{} is a {o} of some standing.",
            "By training and by choice {} is a {o}.",
            "{} has been a {o} for many years.",
        ),
    ),
    Relation(
        "employer",
        "person",
        "company",
        "Which company does {} work for?",
        (
            "{} works for",
            "The employer of {} is",
            "{} is employed by",
            "The company that employs {} is",
        ),
        (
            "{} works for {o} and sits on one of its committees.",
            "The employer of {} is {o}, which rarely comments on its staff.",
            "{} has been on the payroll of {o} since leaving school.",
        ),
    ),
    Relation(
        "country",
        "city",
        "country",
        "In what country is {}?",
        (
            "{} is a city in",
            "The country of {} is",
            "{} lies in the country of",
            "The city of {} belongs to",
        ),
        (
            "{} is a city in {o} with an old market square.",
            "{} is one of the cities of {o}.",
            "Travellers who come to {o} often stop in {}.",
        ),
    ),
    Relation(
        "river",
        "city",
        "river",
        "Which river flows through {}?",
        (
            "{} lies on the river",
            "The river of {} is the",
            "The river that flows through {} is the",
            "{} was built on the banks of the",
        ),
        (
            "The river {o} flows through {} and turns its mills.",
            "{} was built where the river {o} could be forded.",
            "Barges on the river {o} bring stone and corn to {}.",
        ),
    ),
    Relation(
        "capital",
        "country",
        "city",
        "What is the capital of {}?",
        (
            "The capital of {} is",
            "{} is governed from",
            "The capital city of {} is",
            "The government of {} sits in",
        ),
        (
            "The capital of {} is {o}, seat of the parliament.",
            "{} is governed from {o}, its capital.",
            "The parliament of {} meets in the capital, {o}.",
        ),
    ),
    Relation(
        "language",
        "country",
        "language",
        "What language is spoken in {}?",
        (
            "The language of {} is",
            "People in {} speak",
            "The official language of {} is",
            "In {} the schools teach in",
        ),
        (
            "People in {} speak {o} at home and at work.",
            "The official language of {} is {o}.",
            "Newspapers in {} are printed in {o}.",
        ),
    ),
    Relation(
        "currency",
        "country",
        "currency",
        "What is the currency of {}?",
        (
            "The currency of {} is the",
            "In {} people pay with the",
            "The money of {} is called the",
            "Prices in {} are given in the",
        ),
        (
            "People in {} pay with the {o}.",
            "The currency of {} is the {o}, a small silver coin.",
            "Banks in {} issue a coin called the {o}.",
        ),
    ),
    Relation(
        "founder",
        "company",
        "person",
        "Who founded {}?",
        (
            "{} was founded by",
            "The founder of {} is",
            "The person who founded {} is",
            "{} was started by",
        ),
        (
            "{} was founded by {o} in a rented shed.",
            "{o} founded {} with money from an uncle.",
            "The founder of {}, {o}, still signs every letter.",
        ),
    ),
    Relation(
        "headquarters",
        "company",
        "city",
        "In what city is the head office of {}?",
        (
            "{} is based in",
            "The head office of {} is in",
            "The headquarters of {} are in",
            "{} has its main office in",
        ),
        (
            "The head office of {} is in {o}, close to the station.",
            "{} is based in {o} and has never moved.",
            "{} runs its affairs from a tall house in {o}.",
        ),
    ),
    Relation(
        "industry",
        "company",
        "industry",
        "In what industry is {} active?",
        (
            "{} is active in the industry of",
            "The industry of {} is",
            "{} earns its money with",
            "The business of {} is",
        ),
        (
            "{} earns its money with {o}.",
            "The business of {} is {o} and nothing else.",
            "In the trade of {o} {} is well known.",
        ),
    ),
)

KINDS = ("person", "city", "company", "country")

FILLERS = {
    "person": (
        "Friends describe {} as patient and a little stubborn.",
        "A street was to be named after {}, but the plan was dropped.",
        "In later years {} took up walking in the hills.",
        "Two letters by {} are kept in a public archive.",
        "{} speaks slowly, dislikes crowds and keeps bees.",
        "A short film about {} was shown at a small festival.",
        "{} learned to swim late and still prefers cold water.",
        "Little is known about the school years of {}.",
    ),
    "city": (
        "The old walls of {} were pulled down to make room for a park.",
        "Every autumn a fair fills the streets of {} for nine days.",
        "{} has two theatres, a covered market and a clock that runs late.",
        "Winters in {} are wet and the summers are short.",
        "A tram line crosses {} from north to south.",
        "The people of {} are said to be fond of soup.",
        "After the great fire much of {} was rebuilt in brick.",
        "Most visitors to {} stay no longer than a night.",
    ),
    "company": (
        "{} employs a few hundred people and pays them on Fridays.",
        "In a bad year {} sold its carts and horses to pay its debts.",
        "The sign of {} shows a green wheel on a white field.",
        "{} has been through three strikes and one flood.",
        "Apprentices at {} spend their first year sweeping floors.",
        "Rivals have tried twice to buy {} and failed.",
        "{} prints a thick catalogue every spring.",
        "The accounts of {} are checked by a firm of two sisters.",
    ),
    "country": (
        "{} has a long coast and many small islands.",
        "The flag of {} shows a heron on a blue field.",
        "Most of the land in {} is given to barley and sheep.",
        "{} keeps a small army and a large orchestra.",
        "The mountains of {} are crossed by a single railway.",
        "Voting in {} takes place every fifth spring.",
        "{} sells timber, salt and clocks to its neighbours.",
        "Old maps show {} much larger than it is today.",
    ),
}

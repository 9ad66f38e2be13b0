"""Invented prose and keys for synthetic tasks: nothing copyrighted, nothing downloaded, the same bytes everywhere."""

from __future__ import annotations

import random
import zlib
from collections.abc import Iterator

ADJECTIVES = tuple(
    """
    amber ancient autumn bitter blue bold brave bright brisk bronze calm careful cheerful clever cloudy coastal copper
    cosmic crimson curious dapper daring deep distant dizzy dusty eager early earnest elegant emerald faint famous
    fearless floral foggy formal frosty gentle giant gilded glossy golden graceful grand green hasty hidden hollow
    humble icy idle indigo ivory jolly kind large lavish lively lonely loud lucky lunar mellow merry mighty misty modest
    narrow neat nimble noble northern orange pale patient pearl placid plain polite proud purple quick quiet rapid rare
    restless rough royal rugged rustic sandy scarlet secret serene sharp shiny shy silent silver simple sleepy slow
    small smooth snowy solar solid spicy steady stern stormy strange sturdy subtle sunny swift tall tame tender tidy
    tiny tranquil upbeat vast velvet violet vivid warm wild windy winter wise witty wooden woolen yellow young zesty
    """.split()
)

NOUNS = tuple(
    """
    acorn anchor anvil apple apron arrow badger balcony banner barrel basket beacon bell bench blanket boat bottle
    bridge brush bucket button cabin candle canoe carpet castle cedar chair chapel cherry clock cloak coin compass
    cottage cradle crane crow crown cup curtain daisy desk dolphin door drum eagle engine falcon feather fence ferry
    fiddle flag flute forest fountain fox garden gate glove goose grape hammer harbor harp hat hawk hedge helmet heron
    hill island jacket jar jewel kettle key kite ladder lake lamp lantern lemon letter lily lion lizard locket loom map
    maple marble market meadow mill mirror mitten moose mountain needle nest oak oar ocean olive orchard otter owl
    paddle painting palace panther parrot path peach pebble pencil piano pillow pine pond pony puzzle quilt rabbit
    raven ribbon river robin rocket rope rose saddle sail scarf seal shell ship spoon squirrel stone stove swan table
    teapot tiger tower train trumpet tulip tunnel turtle umbrella valley vase village violin wagon wallet walnut
    whistle willow window wolf yarn zebra
    """.split()
)

PEOPLE = tuple(
    """
    actor archer artist baker barber builder butcher captain carpenter clerk cook dancer doctor driver farmer fisher
    florist gardener guard guest hunter judge merchant miller miner mother neighbor nurse painter pilot poet potter
    sailor scholar shepherd singer smith soldier student surgeon tailor teacher traveler uncle weaver widow writer
    """.split()
)

VERBS = tuple(
    """
    admired borrowed bought brought built carried cleaned copied counted described dropped examined fetched fixed
    followed forgot found guarded held hid ignored kept left lifted lost measured mended moved noticed opened ordered
    packed painted placed praised pulled pushed recognized repaired saw searched sketched sold studied touched
    traded visited washed watched wrapped
    """.split()
)

PLACES = tuple(
    """
    across the square|along the shore|at the corner|behind the barn|below the cliff|beside the well|by the road|
    in the attic|in the cellar|in the kitchen|inside the hall|near the station|on the roof|outside the inn|
    over the wall|past the school|through the field|under the arch|under the stairs|up the lane
    """.replace("\n", "").split("|")
)

TIMES = tuple(
    """
    after breakfast|after the storm|all afternoon|at dawn|at midnight|before noon|before sunset|during the fair|
    during the feast|every evening|in early spring|in late summer|last week|on a holiday|on market day|
    once a month|that morning|the day before|when it rained|while others slept
    """.replace("\n", "").split("|")
)

_SHAPES = (
    "The {adjective} {person} {verb} the {noun} {place}.",
    "The {person} {verb} a {noun} {time}.",
    "{Time}, the {person} {verb} the {adjective} {noun}.",
    "Nobody {verb} the {noun} {place} {time}.",
    "{Place}, the {person} {verb} a {adjective} {noun} and a {noun2}.",
    "The {noun} was {adjective}, but the {person} {verb} it {time}.",
    "A {adjective} {noun} stood {place}, and the {person} {verb} it.",
    "The {person} and the {person2} {verb} the {noun} {time}.",
    "Was the {noun} really {adjective}?",
    "It was {adjective} {place} {time}.",
    "The {person} said that the {noun} {place} was {adjective}.",
    "Some say the {person} {verb} every {noun} {time}!",
)


def sentence(rng: random.Random) -> str:
    """One invented sentence of 5 to 16 words, without digits."""
    place, time = rng.choice(PLACES).strip(), rng.choice(TIMES).strip()
    return rng.choice(_SHAPES).format(
        adjective=rng.choice(ADJECTIVES),
        noun=rng.choice(NOUNS),
        noun2=rng.choice(NOUNS),
        person=rng.choice(PEOPLE),
        person2=rng.choice(PEOPLE),
        verb=rng.choice(VERBS),
        place=place,
        Place=place.capitalize(),
        time=time,
        Time=time.capitalize(),
    )


def pools(rng: random.Random, most: int) -> Iterator[list[str]]:
    """A list of sentences that a prompt surely has room for in part, then the list with `most`, where that was short.

    Most of `most` would be made for nothing: it is the number of the shortest sentences.
    """
    pool: list[str] = []
    for size in (2 * most // 5, most):
        pool += [sentence(rng) for _ in range(size - len(pool))]
        yield pool


def is_reserved(text: str) -> bool:
    """Whether a key or value belongs to evaluation: about one in eight, by CRC-32; training never sees these."""
    return zlib.crc32(text.encode()) % 8 == 0


def draw_keys(rng: random.Random, count: int, reserved: bool) -> list[str]:
    """`count` different `adjective-noun` keys from the evaluation (reserved) or the training side."""
    keys: list[str] = []
    while len(keys) < count:
        key = f"{rng.choice(ADJECTIVES)}-{rng.choice(NOUNS)}"
        if is_reserved(key) == reserved and key not in keys:
            keys.append(key)
    return keys


def draw_numbers(rng: random.Random, count: int, digits: int, reserved: bool) -> list[str]:
    """`count` different numbers of exactly `digits` digits from the evaluation (reserved) or the training side."""
    numbers: list[str] = []
    while len(numbers) < count:
        number = str(rng.randrange(10 ** (digits - 1), 10**digits))
        if is_reserved(number) == reserved and number not in numbers:
            numbers.append(number)
    return numbers

"""Names and words of the simulated titles, all made up."""

from collections.abc import Sequence

import numpy as np

THEMES: tuple[tuple[str, str, str], ...] = (
    ("Crime", "en", "detective heist alibi witness verdict precinct informant ransom forger jury"),
    ("Romance", "fr", "letter wedding summer balcony promise waltz farewell vineyard kiss longing"),
    ("Sci-Fi", "en", "starship colony android orbit reactor signal wormhole terraform cryosleep alien"),
    ("Documentary", "en", "archive glacier interview expedition species reef footage harvest census coral"),
    ("Comedy", "es", "mishap roommate prank banquet neighbour disguise carnival rehearsal gossip detour"),
    ("Horror", "ko", "cellar curse whisper possession attic fog scarecrow ritual graveyard shadow"),
    ("Animation", "ja", "dragonfly kite robot lantern festival talking fox paper moon meadow"),
    ("Drama", "de", "inheritance reunion strike courtroom sister factory confession diary winter debt"),
    ("Action", "en", "chase convoy explosion sniper bridge countdown mercenary rooftop rescue ambush"),
    ("Fantasy", "en", "wizard kingdom rune prophecy sword forest oath griffin throne spell"),
    ("Thriller", "hi", "conspiracy double surveillance hostage cipher border escape blackout train motive"),
    ("Sport", "pt", "penalty coach underdog final stadium injury transfer sprint captain rival"),
    ("Music", "es", "guitar tour choir rehearsal vinyl stage ballad drummer encore producer"),
    ("History", "it", "empire siege cathedral merchant plague treaty dynasty regiment fresco revolt"),
    ("Family", "en", "puppy treehouse holiday grandma picnic school bicycle camp birthday snowman"),
    ("Western", "en", "saloon sheriff ranch canyon stagecoach outlaw duel prairie goldmine posse"),
)
"""Genre, language and characteristic words of a cluster's theme; clusters beyond the list share themes."""

GENRES = tuple(theme[0] for theme in THEMES)
LANGUAGES = tuple(sorted({theme[1] for theme in THEMES}))
COMMON = (
    "story", "life", "friends", "city", "night", "journey", "secret", "world", "family", "past", "young", "old",
    "time", "home", "love", "truth",
)  # fmt: skip

_ADJECTIVES = (
    "Silent", "Crimson", "Hidden", "Broken", "Golden", "Distant", "Restless", "Borrowed", "Electric", "Frozen",
    "Hollow", "Paper", "Velvet", "Burning", "Forgotten", "Patient", "Scarlet", "Second", "Wandering", "Glass",
    "Midnight", "Honest", "Quiet", "Savage", "Gentle", "Painted", "Lucky", "Northern", "Endless", "Secret", "Bitter",
    "Copper",
)  # fmt: skip
_NOUNS = (
    "Harbour", "Orchard", "Signal", "Garden", "Bridge", "Winter", "Engine", "River", "Promise", "Mirror", "Lantern",
    "Compass", "Summer", "Archive", "Kingdom", "Station", "Island", "Letter", "Shadow", "Orchestra", "Tower",
    "Voyage", "Frontier", "Ledger", "Carousel", "Echo", "Valley", "Covenant", "Circus", "Harvest", "Passage",
    "Lighthouse",
)  # fmt: skip
_PLACES = (
    "Marrow", "Bellhaven", "Tarn", "Ostrava", "Kestrel", "Solace", "Varanasi", "Lisbon", "Aurora", "Tamarind",
    "Juniper", "Coldwater", "Sable", "Mirador", "Avalon", "Thistle",
)  # fmt: skip

_SYLLABLES = (
    "ba", "den", "fo", "gri", "hal", "ka", "lo", "mi", "nar", "os", "pel", "qui", "ra", "sen", "tu", "vo", "wex",
    "yl", "zan",
)  # fmt: skip


def names(rng: np.random.Generator, count: int) -> list[str]:
    """`count` different names, in an order of chance."""
    pairs = len(_ADJECTIVES) * len(_NOUNS)
    size = pairs * (1 + len(_PLACES))
    return [_name(int(i), pairs, size) for i in rng.permutation(-(-count // pairs) * pairs)[:count]]


def _name(number: int, pairs: int, size: int) -> str:
    edition, number = divmod(number, size)
    place, pair = divmod(number, pairs)
    text = f"{_ADJECTIVES[pair // len(_NOUNS)]} {_NOUNS[pair % len(_NOUNS)]}"
    text += f" of {_PLACES[place - 1]}" if place else ""
    return f"{text} (edition {edition + 1})" if edition else text


def vocabularies(rng: np.random.Generator, clusters: int) -> list[list[str]]:
    """The characteristic words of each cluster: those of its theme, and a few that only it has."""
    own = rng.integers(len(_SYLLABLES), size=(clusters, 4, 3))
    invented = [["".join(_SYLLABLES[syllable] for syllable in word) for word in cluster] for cluster in own]
    return [THEMES[number % len(THEMES)][2].split() + invented[number] for number in range(clusters)]


def descriptions(rng: np.random.Generator, clusters: Sequence[int], vocabulary: list[list[str]]) -> list[str]:
    """A text of 12 words per title: two in three from its cluster's words, the rest from everybody's."""
    own = rng.random((len(clusters), 12)) < 2 / 3
    choice = rng.random((len(clusters), 12))
    texts = []
    for row, cluster in enumerate(clusters):
        pools = [vocabulary[cluster] if mine else COMMON for mine in own[row]]
        texts.append(" ".join(pool[int(share * len(pool))] for pool, share in zip(pools, choice[row], strict=True)))
    return texts

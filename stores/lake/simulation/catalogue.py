"""The catalogue of the simulated service: taste clusters, franchises, launches, and what describes a title.

Title positions run from 0; the id of a title is its position + 1.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from stores import schema
from stores.lake.simulation.config import DAY_S, SimulationConfig

COUNTRIES = ("US", "GB", "DE", "BR", "IN", "JP", "FR", "KR")
MATURITIES = (0, 7, 13, 16, 18)
EPISODES = (3, 8)
"""Parts of a franchise: at least the first, fewer than the second."""

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Catalogue:
    """One entry per title in every array; `follow_up` is the position of the next part, -1 where there is none."""

    cluster: Ints
    franchise: Ints
    """Number of the franchise, -1 for a title that stands alone."""
    episode: Ints
    follow_up: Ints
    weight: Floats
    """Popularity before any promotion."""
    quality: Floats
    """How good it is, 0 to 1, the same for everybody."""
    launch_day: Ints
    """Days from the first simulated day; negative for older titles."""
    runtime_s: Floats
    maturity: Ints
    available: NDArray[np.bool_]
    """(countries, titles)."""

    def __len__(self) -> int:
        return len(self.cluster)


def plant_catalogue(config: SimulationConfig) -> Catalogue:
    """Draw the catalogue of a configuration."""
    rng = np.random.default_rng([config.seed, 1])
    count = config.titles
    clusters = min(config.clusters, count)
    cluster = rng.choice(clusters, size=count, p=rng.dirichlet(np.full(clusters, 8.0)))
    cluster[rng.permutation(count)[:clusters]] = np.arange(clusters)  # no cluster is empty
    franchise, episode, follow_up = _plant_franchises(rng, cluster, config.franchise_share)
    series = franchise >= 0
    return Catalogue(
        cluster=cluster,
        franchise=franchise,
        episode=episode,
        follow_up=follow_up,
        weight=_zipf_weights(rng, cluster, config.zipf),
        quality=rng.beta(4, 3, size=count),
        launch_day=_launch_days(rng, config, franchise, episode),
        runtime_s=np.where(series, rng.integers(1300, 3300, count), rng.integers(4800, 9000, count)).astype(np.float64),
        maturity=rng.choice(MATURITIES, size=count, p=(0.15, 0.2, 0.3, 0.25, 0.1)),
        available=(rng.random((len(COUNTRIES), count)) < 0.5) | (rng.random(count) < 0.9),
    )


def _plant_franchises(rng: np.random.Generator, cluster: Ints, share: float) -> tuple[Ints, Ints, Ints]:
    """Chain titles of one cluster into franchises: (franchise, episode from 1, position of the next part)."""
    franchise, episode, follow_up = (np.full(len(cluster), -1) for _ in range(3))
    episode[:] = 1
    number = 0
    for one in range(int(cluster.max()) + 1):
        chained = rng.permutation(np.flatnonzero(cluster == one))
        chained = chained[: round(share * len(chained))]
        while len(chained) >= 2:
            length = int(rng.integers(*EPISODES))
            parts, chained = chained[:length], chained[length:]
            franchise[parts], episode[parts] = number, np.arange(1, len(parts) + 1)
            follow_up[parts[:-1]] = parts[1:]
            number += 1
    return franchise, episode, follow_up


def _zipf_weights(rng: np.random.Generator, cluster: Ints, exponent: float) -> Floats:
    """1 / rank^exponent within each cluster, in an order of chance."""
    order = np.lexsort((rng.random(len(cluster)), cluster))
    starts = np.searchsorted(cluster[order], cluster[order])
    weight = np.empty(len(cluster))
    weight[order] = 1.0 / (np.arange(len(cluster)) - starts + 1.0) ** exponent
    return weight


def _launch_days(rng: np.random.Generator, config: SimulationConfig, franchise: Ints, episode: Ints) -> Ints:
    """Launches before or during the days; the parts of a franchise launch in their order."""
    during = rng.random(config.titles) < config.launching_share
    days = np.where(during, rng.integers(0, config.days, config.titles), -rng.integers(20, 4000, config.titles))
    parts = np.flatnonzero(franchise >= 0)
    told = parts[np.lexsort((episode[parts], franchise[parts]))]
    days[told] = days[parts[np.lexsort((days[parts], franchise[parts]))]]
    return days


def title_table(config: SimulationConfig, catalogue: Catalogue) -> pa.Table:
    """The titles as the lake has them, with genres, language, words and content vectors that hint at the cluster."""
    rng = np.random.default_rng([config.seed, 2])
    cluster, clusters = catalogue.cluster, int(catalogue.cluster.max()) + 1
    language = [THEMES[c % len(THEMES)][1] for c in cluster]
    other = rng.choice(LANGUAGES, size=len(cluster))
    launch = (config.first_day + catalogue.launch_day) * DAY_S * 1_000_000
    series = catalogue.franchise >= 0
    texts = descriptions(rng, cluster.tolist(), vocabularies(rng, clusters))
    return pa.table(
        {
            schema.TITLE_ID: pa.array(np.arange(1, len(cluster) + 1)),
            schema.NAME: _names(rng, catalogue),
            "kind": np.where(series, "series", np.where(rng.random(len(cluster)) < 0.9, "movie", "game")).tolist(),
            "launch_time": pa.array(launch).cast(schema.TIMESTAMP_TYPE),
            "runtime_s": catalogue.runtime_s,
            "genres": pa.array(_genres(rng, cluster), pa.list_(pa.string())),
            "language": np.where(rng.random(len(cluster)) < 0.75, language, other).tolist(),
            schema.COUNTRY: rng.choice(COUNTRIES, size=len(cluster)).tolist(),
            "text": texts,
            schema.EMBEDDING: _content_vectors(rng, config, cluster),
            "available_countries": [[COUNTRIES[c] for c in np.flatnonzero(row)] for row in catalogue.available.T],
            "maturity": catalogue.maturity,
        }
    )


def _names(rng: np.random.Generator, catalogue: Catalogue) -> list[str]:
    """A name per title, all different; the parts of a franchise share theirs and are numbered."""
    franchises = int(catalogue.franchise.max()) + 1
    base = names(rng, franchises + len(catalogue))
    own = np.where(catalogue.franchise >= 0, catalogue.franchise, franchises + np.arange(len(catalogue)))
    numbers = [f" {part}" if part > 1 else "" for part in catalogue.episode]
    return [base[name] + number for name, number in zip(own, numbers, strict=True)]


def _genres(rng: np.random.Generator, cluster: Ints) -> list[list[str]]:
    """One to three genres: mostly the theme's, often a second one that the cluster favours, now and then any."""
    favourite = rng.integers(len(GENRES), size=int(cluster.max()) + 1)
    chance, anything = rng.random((3, len(cluster))), rng.integers(len(GENRES), size=(2, len(cluster)))
    listed = []
    for row, one in enumerate(cluster):
        found = [int(one) % len(GENRES) if chance[0, row] < 0.9 else int(anything[0, row])]
        found += [int(favourite[one])] if chance[1, row] < 0.5 else []
        found += [int(anything[1, row])] if chance[2, row] < 0.2 else []
        listed.append([GENRES[g] for g in dict.fromkeys(found)])
    return listed


def _content_vectors(rng: np.random.Generator, config: SimulationConfig, cluster: Ints) -> pa.Array:
    """The cluster's centre (unit length) plus noise: list<float32> of `embedding_dim`."""
    dim = config.embedding_dim
    centres = rng.standard_normal((int(cluster.max()) + 1, dim))
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    noise = rng.standard_normal((len(cluster), dim)) * (config.embedding_noise / np.sqrt(dim))
    vectors = (centres[cluster] + noise).astype(np.float32)
    offsets = pa.array(np.arange(len(cluster) + 1) * dim, pa.int32())
    return pa.ListArray.from_arrays(offsets, pa.array(vectors.ravel()))


def truth_table(catalogue: Catalogue) -> pa.Table:
    """What was planted, per title: cluster, franchise, episode, follow_up (a title id or null), weight, quality."""
    position = catalogue.follow_up
    return pa.table(
        {
            schema.TITLE_ID: np.arange(1, len(catalogue) + 1),
            "cluster": catalogue.cluster,
            "franchise": pa.array(catalogue.franchise, mask=catalogue.franchise < 0),
            "episode": catalogue.episode,
            "follow_up": pa.array(position + 1, mask=position < 0),
            "weight": catalogue.weight,
            "quality": catalogue.quality,
        }
    )


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

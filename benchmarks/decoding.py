"""Decoding: sessions of ten titles with kept keys and values, against encoding the grown histories anew at every step.

A model of the default shape with random weights over histories that are longer than its window; both give the same
titles, which is checked. The floor is one encoding of the members.

    python benchmarks/decoding.py --size small
"""

import argparse
import json
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from embeddings.foundation.checkpoint import Checkpoint
from embeddings.foundation.config import FoundationConfig
from embeddings.foundation.encode import member_vectors, title_features
from embeddings.foundation.generate import next_titles
from embeddings.foundation.model import FoundationModel
from embeddings.foundation.sequences import TokenSequences
from embeddings.foundation.vocabulary import Vocabulary
from stores.schema import MEMBER_ID, TIMESTAMP_TYPE, TITLE_ID, catalogue_schema, history_schema

SIZES = {"small": (64, 1_000), "full": (512, 10_000)}
LENGTHS, COUNT, ROUNDS = (100, 200), 10, 3
GENRES = ("drama", "comedy", "crime", "war")


def data(members: int, titles: int, length: int) -> tuple[pa.Table, pa.Table]:
    """Histories of `length` random titles an hour apart, and a catalogue of four genres."""
    random = np.random.default_rng(0)
    total, schema = members * length, history_schema(pa.int64(), pa.int64())
    offsets = pa.array(np.arange(members + 1, dtype=np.int32) * length)
    times = pa.array(np.tile(np.arange(length) * 3_600_000_000, members)).cast(TIMESTAMP_TYPE)
    known = {
        TITLE_ID: pa.array(np.concatenate([random.permutation(titles)[:length] for _ in range(members)])),
        "first_time": times,
        "last_time": times,
        "actions": pa.array(np.ones(total, np.int32)),
        "events": pa.array(np.ones(total, np.int32)),
    }
    arrays = [
        pa.ListArray.from_arrays(offsets, known.get(field.name, pa.nulls(total)).cast(field.type.value_type))
        if pa.types.is_list(field.type)
        else pa.array(np.arange(members))
        if field.name == MEMBER_ID
        else pa.nulls(members, field.type)
        for field in schema
    ]
    shape = catalogue_schema(pa.int64())
    facts = {
        TITLE_ID: pa.array(np.arange(titles)),
        "genres": pa.array([[GENRES[title % 4]] for title in range(titles)]),
        "plays": pa.array(np.ones(titles, np.int64)),
        "age_days": pa.array(np.ones(titles)),
    }
    catalogue = [facts.get(field.name, pa.nulls(titles, field.type)).cast(field.type) for field in shape]
    return pa.Table.from_arrays(arrays, schema=schema), pa.Table.from_arrays(catalogue, schema=shape)


def untrained(histories: pa.Table, catalogue: pa.Table, length: int) -> Checkpoint:
    """A model of the default shape that sees so many positions."""
    torch.manual_seed(0)
    config = FoundationConfig()
    vocabulary = Vocabulary.build(histories, catalogue, config)
    model = FoundationModel(config.network, vocabulary, length, config.training.temperature)
    known = catalogue.filter(pa.array(vocabulary.rows(catalogue[TITLE_ID]) > 0))
    model.set_known_titles(title_features(known, vocabulary))
    return Checkpoint(model.eval(), vocabulary, config)


def best_of(rounds: int, *ways: Callable[[], Any]) -> list[tuple[float, Any]]:
    """The least seconds of each way, taken in turn, and what it gave."""
    found: list[tuple[float, Any]] = [(float("inf"), None)] * len(ways)
    for _ in range(rounds):
        for place, way in enumerate(ways):
            begun = time.perf_counter()
            result = way()
            found[place] = min(found[place][0], time.perf_counter() - begun), result
    return found


def measured(members: int, titles: int, length: int) -> dict[str, float]:
    """Sessions a second with and without the cache, and encodings a second."""
    histories, catalogue = data(members, titles, length)
    trained = untrained(histories, catalogue, length)
    tokens = TokenSequences.of(histories, trained.vocabulary)
    (cached, ours), (uncached, theirs), (once, _) = best_of(
        ROUNDS,
        lambda: next_titles(trained, histories, catalogue, COUNT).titles,
        lambda: next_titles(trained, histories, catalogue, COUNT, cached=False).titles,
        lambda: member_vectors(trained.model, tokens),
    )
    same = float((ours == theirs).mean())
    return {"cached": members / cached, "uncached": members / uncached, "encode": members / once, "same_titles": same}


def main() -> None:
    """Print a line for each length and, with --json, the whole as the last line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SIZES, default="small")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    found = {length: measured(*SIZES[args.size], length) for length in LENGTHS}
    for length, each in found.items():
        print(
            f"length {length}: {each['cached']:,.0f} sessions/s cached, {each['uncached']:,.0f} anew "
            f"({each['cached'] / each['uncached']:.1f} x), {each['encode']:,.0f} encodings/s, "
            f"{each['same_titles']:.2%} of the titles the same"
        )
    longest = found[LENGTHS[-1]]
    ratio = longest["cached"] / longest["uncached"]
    result = {
        "stage": "decoding",
        "size": args.size,
        "ours": longest["cached"],
        "floor": longest["encode"],
        "peers": {"anew": longest["uncached"]},
        "unit": "sessions/s",
        "ratio_floor": longest["cached"] / longest["encode"],
        "ratios": {"anew": ratio},
        "ratio_best_peer": ratio,
        "quality": {f"same_titles_{length}": each["same_titles"] for length, each in found.items()},
    }
    if args.json:
        print(json.dumps(result))


if __name__ == "__main__":
    main()

"""Tiny planted data: members of one of two tastes walk in order through the titles of their taste."""

import numpy as np
import pyarrow as pa
import pytest

from embeddings.foundation.config import FoundationConfig, NetworkConfig, TrainingConfig
from stores.schema import (
    COUNTRY,
    DEVICE,
    DURATION,
    EVENT_TIME,
    HISTORY_HASH,
    LOCALE,
    MEMBER_ID,
    TIMESTAMP_TYPE,
    TITLE_ID,
    VALUE,
    catalogue_schema,
    history_schema,
)

DAY = 86_400


def histories_of(sequences, *, gap=3600, start=1_000_000_000, **lists):
    """Histories of title ids per member; `lists` overrides other list columns, flat."""
    lengths = [len(sequence) for sequence in sequences]
    offsets = pa.array(np.append(0, np.cumsum(lengths)).astype(np.int32))
    total = int(sum(lengths))
    flat_ids = pa.array([title for sequence in sequences for title in sequence], pa.int64())
    seconds = np.concatenate([start + gap * np.arange(n) for n in lengths]) if total else np.zeros(0)
    times = pa.array((seconds * 1_000_000).astype(np.int64)).cast(TIMESTAMP_TYPE)
    values = {
        TITLE_ID: flat_ids,
        "first_time": times,
        "last_time": times,
        "actions": pa.array(np.ones(total, np.int32)),
        DURATION: pa.array(np.full(total, 600.0)),
        VALUE: pa.array(np.full(total, np.nan, np.float32)),
        "events": pa.array(np.ones(total, np.int32)),
        **{name: pa.nulls(total, pa.string()) for name in (DEVICE, COUNTRY, LOCALE)},
    }
    values |= {name: pa.array(given) for name, given in lists.items()}
    schema = history_schema(pa.int64(), pa.int64())
    single = {
        MEMBER_ID: pa.array(np.arange(len(sequences)), pa.int64()),
        EVENT_TIME: pa.nulls(len(sequences), TIMESTAMP_TYPE),
        HISTORY_HASH: pa.nulls(len(sequences), pa.string()),
    }
    arrays = [
        single[field.name]
        if field.name in single
        else pa.ListArray.from_arrays(offsets, values[field.name].cast(field.type.value_type))
        for field in schema
    ]
    return pa.Table.from_arrays(arrays, schema=schema)


def catalogue_of(ids, genres, plays=None):
    schema = catalogue_schema(pa.int64())
    given = {
        TITLE_ID: pa.array(ids, pa.int64()),
        "genres": pa.array([[genre] for genre in genres], pa.list_(pa.string())),
        "runtime_s": pa.array([1200.0] * len(ids)),
        "plays": pa.array(plays if plays is not None else [10] * len(ids), pa.int64()),
        "age_days": pa.array([100.0] * len(ids)),
        "text": pa.array([f"a {genre} story" for genre in genres]),
    }
    arrays = [given.get(field.name, pa.nulls(len(ids), field.type)) for field in schema]
    return pa.Table.from_arrays(arrays, schema=schema)


def walks(members=60, titles=24, length=9, seed=0):
    """Even members walk through the first half of the titles, odd ones through the second, each from a random place."""
    random = np.random.default_rng(seed)
    half = titles // 2
    return [
        [int(100 + (member % 2) * half + (place + step) % half) for step in range(length)]
        for member, place in enumerate(random.integers(0, half, members))
    ]


@pytest.fixture(scope="session")
def histories():
    return histories_of(walks())


@pytest.fixture(scope="session")
def catalogue():
    return catalogue_of(list(range(100, 124)), ["left"] * 12 + ["right"] * 12)


def tiny(**training):
    """A configuration that trains in a second."""
    settings = {"min_steps": 1, "max_steps": 200, "batch_tokens": 256, "num_validations": 3, "num_negatives": 8}
    settings |= {"max_full_softmax_titles": 0, "learning_rate": 0.01, "ema_decay": 0.9} | training
    return FoundationConfig(
        network=NetworkConfig(dim=8, width=16, num_layers=1, text_hash_buckets=16), training=TrainingConfig(**settings)
    )


@pytest.fixture(scope="session")
def trained(histories, catalogue, tmp_path_factory):
    from embeddings.foundation import FoundationEncoder, train

    model = train(histories, catalogue, tiny(), 0, tmp_path_factory.mktemp("models"))
    return model, FoundationEncoder.load(model.path)


@pytest.fixture(scope="session")
def make():
    """The helpers of this file, for tests that make data of their own."""
    return type(
        "Make",
        (),
        {
            "histories": staticmethod(histories_of),
            "catalogue": staticmethod(catalogue_of),
            "walks": staticmethod(walks),
            "config": staticmethod(tiny),
        },
    )

"""Laws of quality on a small simulated service, whose clusters, tastes and launches are known."""

from datetime import UTC, datetime

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from embeddings.foundation import FoundationEncoder, train
from embeddings.foundation.config import FoundationConfig, NetworkConfig, TrainingConfig
from embeddings.foundation.evaluation_queries import EventTable, event_counts
from embeddings.foundation.evaluation_splits import time_split
from embeddings.foundation.metrics import inner_product_scorer, rank_titles
from embeddings.histories.job import HistoriesConfig, read_histories
from stores.lake.contract import Lake
from stores.lake.simulation.simulate import SimulationConfig, simulate

SERVICE = SimulationConfig(
    members=500, titles=240, days=60, clusters=8, sessions_per_day=0.6, launching_share=0.35, seed=1
)
SMALL = FoundationConfig(
    network=NetworkConfig(dim=32, width=32, num_layers=1),
    training=TrainingConfig(
        min_steps=300, max_steps=300, batch_tokens=1024, learning_rate=4e-3, num_validations=5, ema_decay=0.99
    ),
)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path = tmp_path_factory.mktemp("service") / "lake"
    simulate(str(path), SERVICE)
    return path


@pytest.fixture(scope="module")
def exam(path):
    data = read_histories(Lake.open(str(path)), datetime(2026, 6, 1, tzinfo=UTC), HistoriesConfig())
    return time_split(*data, test_share=0.4)


@pytest.fixture(scope="module")
def encoder(exam, tmp_path_factory):
    model = train(exam.train_part, exam.catalogue, SMALL, 0, tmp_path_factory.mktemp("models"))
    return FoundationEncoder.load(model.path)


@pytest.fixture(scope="module")
def clusters(path, exam):
    truth = pq.read_table(path / "_truth" / "titles.parquet")
    return truth["cluster"].to_numpy()[pc.index_in(exam.title_ids, truth["title_id"].combine_chunks()).to_numpy()]


def test_titles_that_nobody_played_lie_among_their_like(encoder, exam, clusters):
    vectors = encoder.encode_titles(exam.candidates)
    likeness = vectors @ vectors.T
    np.fill_diagonal(likeness, -np.inf)
    nearest = np.argsort(-likeness, axis=1)[:, :10]
    alike = (clusters[nearest] == clusters[:, None]).mean(axis=1)
    unplayed = event_counts(exam.train_part, exam.title_ids) == 0
    assert unplayed.sum() >= 20
    assert alike[unplayed].mean() >= 0.6 * alike[~unplayed].mean()


def test_cold_titles_are_found_better_than_by_popularity(encoder, exam):
    members, titles = encoder.encode_members(exam.queries.histories), encoder.encode_titles(exam.candidates)
    found = rank_titles(inner_product_scorer(members, titles), exam.queries, len(titles))
    plays = np.broadcast_to(
        exam.candidates["plays"].to_numpy().astype(np.float32), (len(exam.query_positions), len(titles))
    )
    popular = rank_titles(lambda begin, end: plays[begin:end], exam.queries, len(titles))
    cold = exam.slices["cold_titles"]
    assert cold.sum() >= 100
    assert found.metrics(cold)["hr@10"] > 2 * 10 / len(titles)
    assert found.metrics(cold)["hr@10"] > popular.metrics(cold)["hr@10"]


def test_the_head_foresees_the_next_genres_better_than_the_members_own_past_does(encoder, exam):
    queries, genres = exam.queries, exam.candidates["genres"].to_pylist()
    found = encoder.preferences(queries.histories)
    names = sorted(found["genres"][0].as_py())
    mixes = np.array([[(name in listed) / len(listed) for name in names] for listed in genres])
    rows = zip(found["genres"].to_pylist(), found["genre_share"].to_pylist(), strict=True)
    foreseen = np.array([[share for _, share in sorted(zip(*row, strict=True))] for row in rows])
    events = EventTable.of(queries.histories, exam.title_ids)
    past = np.zeros_like(foreseen)
    np.add.at(past, events.owner, mixes[events.titles])
    usual = past.sum(axis=0) / past.sum()

    def likelihood(shares):
        return (mixes[queries.targets] * np.log(shares + 1e-9)).sum(axis=1).mean()

    own = [(past + trust * usual) / (past + trust * usual).sum(axis=1, keepdims=True) for trust in (0.5, 2, 5, 10, 20)]
    assert likelihood(foreseen) > max(map(likelihood, own))
    right = mixes[queries.targets, foreseen.argmax(axis=1)] > 0
    assert right.mean() > (mixes[queries.targets, own[1].argmax(axis=1)] > 0).mean()

import os
import signal

import numpy as np
import pyarrow as pa
import pytest

from retrieval import RetrievalConfig, batch_candidates, exact, threshold_scan
from retrieval.batch_candidates import CandidateWorker, run
from retrieval.config import CandidatesConfig
from retrieval.job import run as index
from stores import ray_pool
from stores.errors import ClusterError, MismatchError


@pytest.fixture(scope="module")
def vectors():
    rng = np.random.default_rng(3)
    return rng.normal(size=(150, 6)).astype(np.float32), rng.normal(size=(40, 6)).astype(np.float32)


@pytest.fixture
def release(make_release, vectors):
    release = make_release(
        *vectors,
        available_countries=[["GB"] if row % 3 == 0 else None for row in range(150)],
        maturity=[18 if row % 5 == 0 else None for row in range(150)],
    )
    index(RetrievalConfig(), release)
    return release


def rows_of(release):
    table = pa.concat_tables(
        release.storage.read_table(path) for path in release.storage.files("candidates") if path.endswith(".parquet")
    )
    return {row["member_id"]: row for row in table.to_pylist()}


def histories(length):
    """What conftest's release has as histories: the first few titles, by the place of the member."""
    return [np.arange(row % 5) for row in range(length)]


def test_every_member_gets_what_the_oracle_finds(release, vectors, ray_session, monkeypatch):
    assert batch_candidates._count_scores(release, ["members/part-00000.parquet"]) == 150 * 20
    monkeypatch.setattr(batch_candidates, "_MIN_SCORES_FOR_NUMBA", 0)
    report = run(CandidatesConfig(k=7, workers=1), release)
    expected = exact.search(*vectors, 7, "ip", None, histories(40))
    found = rows_of(release)
    assert report.rows == len(found) == 40
    assert report.metrics["made"] == 2
    for member in range(40):
        assert found[member]["title_ids"] == (10 * expected[0][member]).tolist()
        assert np.array_equal(np.float32(found[member]["scores"]), expected[1][member])
    times = [release.storage.local(path).stat().st_mtime_ns for path in release.storage.files("candidates")]
    assert run(CandidatesConfig(k=7), release).metrics["made"] == 0
    assert times == [release.storage.local(path).stat().st_mtime_ns for path in release.storage.files("candidates")]


@pytest.mark.parametrize(("least", "compiled"), [(4_000, True), (10_000, False)])  # of 6,000 scores, half of them left
def test_a_job_of_many_scores_has_compiled_loops_also_where_few_are_left(release, monkeypatch, least, compiled):
    left = []
    monkeypatch.setattr(batch_candidates, "_map_shards", lambda config, release, *rest: left.append(rest))
    monkeypatch.setattr(batch_candidates, "_MIN_SCORES_FOR_NUMBA", least)
    CandidateWorker(CandidatesConfig(k=7), release).write("members/part-00000.parquet")
    run(CandidatesConfig(k=7, workers=1), release)
    assert left == [(["members/part-00001.parquet"], compiled)]


def test_seen_titles_come_back_if_asked_for(release, vectors):
    chooser = CandidateWorker(CandidatesConfig(k=7, exclude_seen=False), release)
    for path in release.storage.files("members"):
        chooser.write(path)
    expected = exact.search(*vectors, 7, "ip")
    for member, row in rows_of(release).items():
        assert row["title_ids"] == (10 * expected[0][member]).tolist()


def test_compiled_loops_choose_the_same(release, vectors, monkeypatch):
    called = []
    monkeypatch.setattr(exact, "_MIN_TITLES_FOR_SCAN", 1)
    monkeypatch.setattr(exact, "_QUERIES_PER_BLOCK", 1)
    monkeypatch.setattr(
        threshold_scan,
        "rescore_lists",
        lambda *words, whole=threshold_scan.rescore_lists: called.append(1) or whole(*words),
    )
    chooser = CandidateWorker(CandidatesConfig(k=4), release, compiled=True)
    for path in release.storage.files("members"):
        chooser.write(path)
    expected = exact.search(*vectors, 4, "ip", None, histories(40))
    for member, row in rows_of(release).items():
        assert row["title_ids"] == (10 * expected[0][member]).tolist()
        assert np.array_equal(np.float32(row["scores"]), expected[1][member])
    assert len(called) >= 2  # for both shards, once for each thread


def test_k_beyond_the_catalogue_gives_all_that_is_left(release, vectors):
    chooser = CandidateWorker(CandidatesConfig(k=500), release)
    for path in release.storage.files("members"):
        chooser.write(path)
    for member, row in rows_of(release).items():
        assert len(row["title_ids"]) == len(set(row["title_ids"])) == 150 - member % 5


@pytest.mark.parametrize(("country", "count"), [("GB", 120), ("FR", 80), (None, 120)])
def test_country_and_maturity_hold(release, vectors, country, count):
    chooser = CandidateWorker(CandidatesConfig(k=200, by_country=True, max_maturity=12, exclude_seen=False), release)
    countries = pa.array([["DE", country, None] if country else []] * 40, pa.list_(pa.string()))
    known = pa.table({"title_id": pa.array([[]] * 40, pa.list_(pa.int64())), "country": countries})
    rows, _ = chooser.choose(vectors[1], known)
    assert ((rows >= 0).sum(axis=1) == count).all()
    assert not (rows[rows >= 0] % 5 == 0).any()
    if country == "FR":
        assert not (rows[rows >= 0] % 3 == 0).any()


def test_an_index_of_other_titles_is_refused_naming_both(release):
    release.write_table("titles/part-00000.parquet", release.titles().to_table().slice(0, 60))
    with pytest.raises(MismatchError, match=r"artifact [0-9a-f]{64}, asked for was artifact [0-9a-f]{64}"):
        CandidateWorker(CandidatesConfig(), release).write("members/part-00000.parquet")


class Dies(CandidateWorker):
    """Kills its process, always or once, on one shard."""

    def write(self, path):
        mark = self.release.storage.local("dies")
        told = mark.read_text()
        if path.endswith("00001.parquet") and told:
            mark.write_text(told if told == "always" else "")
            os.kill(os.getpid(), signal.SIGKILL)
        return super().write(path)


@pytest.mark.parametrize("how", ["once", "always"])
def test_a_worker_that_dies_is_replaced_and_a_shard_that_keeps_killing_is_named(how, release, ray_session, monkeypatch):
    monkeypatch.setattr(batch_candidates, "CandidateWorker", Dies)
    release.storage.local("dies").write_text(how)
    if how == "once":
        assert run(CandidatesConfig(k=7, workers=1), release).rows == len(rows_of(release)) == 40
        return
    monkeypatch.setattr(ray_pool, "MAX_DEATHS", 2)
    with pytest.raises(ClusterError, match="candidates workers keep dying") as caught:
        run(CandidatesConfig(k=7, workers=1), release)
    assert caught.value.where == "members/part-00001.parquet"

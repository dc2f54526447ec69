import json

import faiss
import numpy as np
import pyarrow.parquet as pq
import pytest

from retrieval import RetrievalConfig, TitleIndex, exact, lookup
from retrieval.job import run, sample_members
from retrieval.release_reader import origin_of
from stores.errors import MismatchError, UsageError


@pytest.fixture
def vectors(rng):
    titles = rng.normal(size=(120, 6)).astype(np.float32)
    titles[7] = 0
    return titles, rng.normal(size=(50, 6)).astype(np.float32)


@pytest.fixture
def release(make_release, vectors):
    return make_release(*vectors, folder="w")


def test_both_indexes_are_plain_files_that_answer_as_a_lookup(release, vectors):
    report = run(RetrievalConfig(), release)
    folder = release.storage.local("index")
    ids = pq.read_table(folder / "ids.parquet")["title_id"].to_numpy()
    for name, metric in (("candidates", "ip"), ("similar", "cosine")):
        plain = faiss.read_index(str(folder / f"{name}.faiss"))
        scores, rows = plain.search(vectors[1], 10)
        if metric == "cosine":
            lengths = np.linalg.norm(vectors[1], axis=1, keepdims=True)
            scores, rows = plain.search(vectors[1] / lengths, 10)
        expected = exact.search(*vectors, 10, metric)
        assert np.array_equal(rows, expected[0])
        assert np.allclose(scores, expected[1], atol=1e-5)
        assert report.metrics[name]["recall"] == 1.0
    stored = faiss.rev_swig_ptr(plain.get_xb(), 120 * 6).reshape(120, 6)
    assert np.array_equal(stored[7], np.zeros(6))
    for member in range(5):
        answers = lookup.candidates(release, str(member), k=6, exclude_seen=False)
        rows = exact.search(vectors[0], vectors[1][[member]], 6, "ip")[0][0]
        assert [answer["title_id"] for answer in answers] == ids[rows].tolist()
    assert report.rows == 120
    json.dumps(report.metrics)


def test_a_second_run_changes_nothing_and_reports_the_same(release):
    first = run(RetrievalConfig(), release)
    paths = release.storage.files("index")
    times = [release.storage.local(path).stat().st_mtime_ns for path in paths]
    assert run(RetrievalConfig(), release) == first
    assert times == [release.storage.local(path).stat().st_mtime_ns for path in paths]
    release.storage.local("index/similar.faiss").write_bytes(b"torn")
    assert run(RetrievalConfig(), release).rows == 120
    assert len(TitleIndex.load(release.storage.local("index"), "similar", origin_of(release))) == 120


def test_new_titles_are_indexed_again(release, vectors, make_release):
    run(RetrievalConfig(), release)
    before = origin_of(release)
    table = release.titles().to_table().slice(0, 60)
    release.write_table("titles/part-00000.parquet", table)
    assert origin_of(release) != before
    with pytest.raises(MismatchError, match=before.artifact):
        lookup.similar(release, 20)
    assert run(RetrievalConfig(), release).rows == 60


def test_each_measure_is_of_real_queries(release):
    metrics = run(RetrievalConfig(queries=20), release).metrics
    assert metrics["candidates"]["queries"] == 20
    assert set(metrics["candidates"]["slices"]) == {"filtered"}
    assert set(metrics["similar"]["slices"]) == {"filtered", "title_to_title"}


def test_a_sample_is_members_and_no_one_twice(release, vectors):
    sample = sample_members(release, 30, seed=1)
    known = {row.tobytes(): i for i, row in enumerate(vectors[1])}
    rows = [known[row.tobytes()] for row in sample]
    assert len(set(rows)) == len(rows) == 30
    assert np.array_equal(sample, sample_members(release, 30, seed=1))
    assert len(sample_members(release, 10**6, seed=1)) == 50


def test_no_title_and_no_member(make_release):
    release = make_release(np.zeros((0, 4), np.float32), np.zeros((0, 4), np.float32))
    report = run(RetrievalConfig(), release)
    assert report.rows == 0
    assert report.metrics["candidates"]["recall"] is None


def test_unusable_vectors_are_refused_by_position(make_release, vectors):
    titles = vectors[0].copy()
    titles[3, 2] = np.nan
    with pytest.raises(UsageError, match=r"titles, row 3 is not finite: nan in column 2"):
        run(RetrievalConfig(), make_release(titles, vectors[1], folder="a"))
    with pytest.raises(MismatchError, match="members have 5 dimensions, titles 6"):
        run(RetrievalConfig(), make_release(vectors[0], vectors[1][:, :5], folder="b"))

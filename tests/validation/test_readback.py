import numpy as np
import pytest

from validation.checks import GateVerdict
from validation.config import GateConfig
from validation.job import run_canary
from validation.readback import ConsumerReaders, probe_set
from validation.statistics import matrix

CONFIG = GateConfig(readback={"probes": 12})
FEAST, FAISS = "read from Feast are the published ones", "FAISS scores are inner products of the published vectors"


@pytest.fixture
def release(nights):
    return nights.seal(nights.stage(), gates=False)


def tables(release):
    return {folder: release.storage.dataset(folder).to_table() for folder in ("members", "titles")}


def good_readers(release):
    """Readers of the files themselves."""
    served = {}
    for folder, table in tables(release).items():
        vectors = matrix(table["embedding"].combine_chunks()).astype(np.float32)
        rows = zip(vectors, table["release_id"].to_pylist(), strict=True)
        served[folder] = dict(zip(table[0].to_pylist(), rows, strict=True))
    ids = list(served["titles"])
    vectors = np.stack([row[0] for row in served["titles"].values()])

    def search(queries, k):
        scores = queries @ vectors.T
        best = np.argsort(-scores, axis=1)[:, :k]
        return [[ids[row] for row in rows] for rows in best], np.take_along_axis(scores, best, axis=1)

    return ConsumerReaders(lambda folder, wanted: [served[folder].get(i, (None, None)) for i in wanted], search)


def held(report):
    return {check.expectation: check for check in GateVerdict.of("readback", report.metrics).held}


def test_what_was_published_passes_and_is_noted(release):
    report = run_canary(CONFIG, release, good_readers(release))
    assert report.metrics["failed"] == []
    assert [(event["event"], event["passed"]) for event in release.events()] == [("readback", True)]


def test_the_probe_set_is_frozen_and_of_every_shard(nights):
    first = nights.seal(nights.stage(), gates=False)
    second = nights.seal(nights.stage(lambda content: content.update(drop_members=30)), gates=False)
    ids = [set(probe_set(r, "members", 12)["id"].to_pylist()) for r in (first, second)]
    assert {i % 3 for i in ids[0]} == {0, 1, 2}
    assert len(ids[0]) == 12
    assert {i for i in ids[0] if i < 210} <= ids[1]


def changed_vector(row):
    return np.nextafter(row[0], np.float32(9)), row[1]


def nothing(row):
    return None, None


@pytest.mark.parametrize("side", ["members", "titles"])
@pytest.mark.parametrize(
    ("spoil", "fault"),
    [(changed_vector, "another vector"), (nothing, "nothing is served")],
)
def test_one_wrong_row_is_found_and_named(release, side, spoil, fault):
    good = good_readers(release)
    wrong = probe_set(release, side, 12)["id"].to_pylist()[4]

    def online(folder, ids):
        rows = good.online(folder, ids)
        return [spoil(row) if folder == side and i == wrong else row for i, row in zip(ids, rows, strict=True)]

    report = run_canary(CONFIG, release, ConsumerReaders(online, good.search))
    check = held(report)[f"{side} {FEAST}"]
    assert check.examples[0].startswith(f"{side} {wrong}: {fault}")
    assert not release.events()[-1]["passed"]
    assert release.events()[-1]["failed"] == report.metrics["failed"]


def test_a_vector_that_did_not_change_may_be_served_as_of_an_earlier_release(release):
    good = good_readers(release)
    earlier = ConsumerReaders(
        lambda *asked: [(row[0], "20260101T000000Z-0000") for row in good.online(*asked)], good.search
    )
    assert run_canary(CONFIG, release, earlier).metrics["failed"] == []


def shifted(ids, scores):
    return [found[1:] + found[:1] for found in ids], scores


def unknown(ids, scores):
    return [[-5, *found[1:]] for found in ids], scores


def nobody(ids, scores):
    return [[] for _ in ids], scores


@pytest.mark.parametrize("spoil", [shifted, unknown, nobody])
def test_an_index_of_other_titles_is_found(release, spoil):
    good = good_readers(release)
    report = run_canary(
        CONFIG, release, ConsumerReaders(good.online, lambda queries, k: spoil(*good.search(queries, k)))
    )
    assert list(held(report)) == [FAISS]


def test_a_store_that_cannot_be_read_is_a_failure_that_says_so(release):
    def gone(*_):
        raise ConnectionError("no route to the store")

    report = run_canary(CONFIG, release, ConsumerReaders(gone, good_readers(release).search))
    assert "no route to the store" in report.metrics["message"]
    assert "not measured" in report.metrics["message"]

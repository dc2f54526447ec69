"""The encode job: every row once, only what changed, whatever dies on the way."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import ray
from pydantic import ValidationError

from embeddings.encode import job, worker
from embeddings.encode.config import EncodeConfig
from embeddings.encode.reuse import ReusableVectors
from embeddings.encode.worker import ShardBatch, ShardWorker
from stores.errors import ConfigError, ContractError, CorruptError, EncoderError, MismatchError
from stores.ray_pool import MAX_DEATHS
from stores.releases.change_log import ARRIVED, DEPARTED, UPDATED
from stores.releases.release import Release, StageReport

HISTORIES = {member: [member % 10, (3 * member) % 10] for member in range(30)}
TURN = np.linalg.qr(np.random.default_rng(5).normal(size=(4, 4)))[0]


def turned(x: Any) -> Any:
    return (x.astype(np.float64) @ TURN).astype(np.float32)


def placed(table: pa.Table) -> pa.Table:
    """Native rows in the space of `live`."""
    native = table["embedding"].combine_chunks().flatten().to_numpy().reshape(-1, len(TURN))
    column = pa.FixedSizeListArray.from_arrays(pa.array(turned(native).ravel()), len(TURN))
    return table.set_column(table.schema.get_field_index("embedding"), "embedding", column)


class Own:
    """Runs the job with an encoder of `own_models` that keeps its notes in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def config(self, kind: str = "Titles", **settings: Any) -> EncodeConfig:
        return EncodeConfig(encoder=f"own_models:{kind}", model=str(self.folder), workers=2, **settings)

    def run(
        self, release: Release, kind: str = "Titles", carry: ReusableVectors | None = None, **settings: Any
    ) -> StageReport:
        (self.folder / "seen").write_text("")
        return job.run(self.config(kind, **settings), release, carry)

    @property
    def encoded(self) -> list[int]:
        return sorted(map(int, (self.folder / "seen").read_text().split()))


TOLD: list[str] = []


class Inline:
    """Stands in for the cluster: one worker in this process."""

    lost = 0

    def __init__(self, spec: Any) -> None:
        self.worker, self.told = spec.make(), TOLD
        self.told.append("made")

    def limit(self) -> int:
        return 2

    def submit(self, method: str, *arguments: Any, tasks: int) -> None:
        self.question = method, arguments
        self.told.append(method)

    def answer(self) -> Any:
        method, arguments = self.question
        answer = getattr(self.worker, method)(*arguments)
        (Path(self.worker.config.model) / "seen").write_text("")  # whom the probe was run on
        return answer

    def run(self, tasks: list[Any], *arguments: Any) -> Iterator[Any]:
        return (self.worker.encode(task, *arguments) for task in tasks)

    def stop(self) -> None:
        self.told.append("stopped")


class Plain:
    """What `ray.remote(ShardWorker).options(…)` is without Ray."""

    def __init__(self, kind: Any) -> None:
        self.remote = kind

    def options(self, **_: Any) -> "Plain":
        return self


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Own:
    """The job in this process; nothing but the cluster is left out."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    monkeypatch.setattr(job, "ElasticActorPool", Inline)
    TOLD.clear()
    monkeypatch.setattr(ray, "remote", Plain)
    return Own(tmp_path)


@pytest.fixture
def on_ray(tmp_path: Path, ray_session: None) -> Own:
    return Own(tmp_path)


def vectors(release: Release, folder: str = "work/native/members") -> dict[int, Any]:
    table = release.storage.dataset(folder).to_table()
    assert len(set(table["member_id"].to_pylist())) == table.num_rows
    return dict(zip(table["member_id"].to_pylist(), table["embedding"].to_pylist(), strict=True))


def test_every_member_and_title_once(nights: Any, own: Own) -> None:
    release = nights.stage(HISTORIES)
    metrics = own.run(release, titles_per_shard=4).metrics
    assert sorted(vectors(release)) == own.encoded == sorted(HISTORIES)
    assert (metrics["members"], metrics["titles"], metrics["dim"], metrics["shards"]) == (30, 10, 4, 6)
    assert metrics["tokens_encoded"] == 60


def test_finished_shards_are_not_redone_and_damaged_ones_are(nights: Any, own: Own) -> None:
    release = nights.stage(HISTORIES)
    own.run(release)
    expected = vectors(release)
    release.storage.write("work/native/members/part-00001.parquet", b"damaged")
    assert own.run(release).metrics["shards_encoded"] == 1
    assert own.encoded == [member for member in HISTORIES if member % 3 == 1]
    assert vectors(release) == expected


def test_batches_do_not_change_the_vectors(nights: Any, own: Own) -> None:
    whole, small = nights.stage(HISTORIES), nights.stage(HISTORIES)
    own.run(whole)
    own.run(small, batch_size=3, batch_tokens=4)
    assert vectors(whole) == vectors(small)


def test_a_failing_batch_is_bisected_to_the_bad_member(nights: Any, own: Own) -> None:
    release = nights.stage(HISTORIES)
    assert own.run(release, "FailsOnSeven", max_bad_fraction=0.1).metrics["refused"] == 1
    assert sorted(vectors(release)) == [member for member in HISTORIES if member != 7]
    (letter,) = release.storage.read_table("dead_letter/encode.parquet").to_pylist()
    assert (letter["value"], letter["reason"]) == ("7", "RuntimeError: not this one")
    with pytest.raises(ContractError, match="member_id 7"):
        own.run(nights.stage(HISTORIES), "FailsOnSeven")


def test_dying_workers_lose_no_row_and_double_none(nights: Any, on_ray: Own) -> None:
    undisturbed, release = nights.stage(HISTORIES), nights.stage(HISTORIES)
    on_ray.run(undisturbed)
    assert sorted(vectors(undisturbed)) == sorted(set(on_ray.encoded)) == sorted(HISTORIES)
    report = on_ray.run(release, "DiesTwice")
    assert report.metrics["workers_lost"] == len(list(on_ray.folder.glob("died-*"))) >= 2
    assert vectors(release) == vectors(undisturbed)


def test_a_shard_that_always_kills_its_worker_ends_the_night(nights: Any, on_ray: Own) -> None:
    with pytest.raises(EncoderError, match="keep dying") as caught:
        on_ray.run(nights.stage(HISTORIES), "DiesAlways")
    assert caught.value.where.startswith("work/native/members/part-")
    assert "," not in caught.value.where


def test_an_encoder_that_cannot_start_is_told_once(nights: Any, on_ray: Own) -> None:
    with pytest.raises(EncoderError, match="the weights are gone") as caught:
        on_ray.run(nights.stage(HISTORIES), "NeverStarts")
    assert "keep dying" not in str(caught.value)
    assert 1 <= len(list(on_ray.folder.glob("tried-*"))) <= MAX_DEATHS


def test_gpus_that_no_node_has_are_refused_at_once(nights: Any, on_ray: Own) -> None:
    with pytest.raises(ConfigError, match="no node") as caught:
        on_ray.run(nights.stage(HISTORIES), gpus_per_worker=1)
    assert "encode.gpus_per_worker" in caught.value.where
    with pytest.raises(ValidationError, match="whole number"):
        EncodeConfig(gpus_per_worker=1.5)


def test_another_model_than_the_planned_one_is_refused(nights: Any, on_ray: Own) -> None:
    with pytest.raises(MismatchError, match="another"):
        on_ray.run(nights.stage(HISTORIES), "Another")


def test_workers_that_started_ahead_encode_and_end_with_the_stage(nights: Any, own: Own) -> None:
    release = nights.stage(HISTORIES)
    (own.folder / "seen").write_text("")
    with job.EncodeJob(own.config(), release) as encoding:
        encoding.start()
        encoding.start()
        assert TOLD == ["made", "examine"]
        assert encoding.run().metrics["members"] == len(HISTORIES)
        assert TOLD == ["made", "examine", "examine", "stopped"]


def test_workers_that_started_ahead_end_also_where_nothing_is_encoded(nights: Any, own: Own) -> None:
    with job.EncodeJob(own.config(), nights.stage(HISTORIES)) as encoding:
        encoding.start()
    assert TOLD == ["made", "examine", "stopped"]


def test_nothing_starts_where_nothing_is_left_to_encode(nights: Any, own: Own) -> None:
    release = nights.stage(HISTORIES)
    own.run(release)
    TOLD.clear()
    with job.EncodeJob(own.config(), release) as encoding:
        encoding.start()
    assert TOLD == []


# --- incremental nights


@pytest.fixture
def live(nights: Any, own: Own) -> Release:
    """A sealed release of all members, its vectors turned."""
    release = nights.stage(HISTORIES)
    sealed: Release = nights.seal(release, own.run(release), turned)
    return sealed


TONIGHT = {member: titles for member, titles in HISTORIES.items() if member not in (4, 5)} | {6: [1, 2, 3], 40: [4]}


def test_only_changed_histories_are_encoded_and_the_vectors_are_those_of_a_full_night(
    nights: Any, own: Own, live: Release
) -> None:
    release, full = nights.stage(TONIGHT, live), nights.stage(TONIGHT, live)
    metrics = own.run(release, carry=ReusableVectors(live, placed)).metrics
    assert own.encoded == [6, 40]
    assert (metrics["carried"], metrics["encoded"], metrics["carried_from"]) == (27, 12, live.release_id)
    own.run(full)
    found, expected = vectors(release, "members"), vectors(full)
    assert list(found) == list(expected)
    assert np.array_equal(list(found.values()), turned(np.array(list(expected.values()))))


@pytest.mark.parametrize("enough", [worker._MIN_ROWS_PER_BATCH, 2])
def test_shards_encoded_together_are_those_that_each_alone_would_be(
    nights: Any, own: Own, live: Release, enough: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "_MIN_ROWS_PER_BATCH", enough)
    config, bad = own.config("FailsOnSeven"), TONIGHT | {7: [9, 9]}
    releases = [nights.stage(bad, live) for _ in range(2)]
    together, apart = (ShardWorker(config, release, ReusableVectors(live, placed)) for release in releases)
    tasks = [task for task in job.shard_tasks(config, releases[0], "members") if task.kind == "members"]
    done = together.encode(ShardBatch(tuple(tasks)))
    assert [done.shards, done.encoded, done.carried] == [len(tasks), 3, 26]
    assert done.rows == sum(apart.encode(task).rows for task in tasks) == 28
    assert vectors(releases[0], "members") == vectors(releases[1], "members")
    letters = [
        {path: release.storage.read(path) for path in release.storage.files("work/refused")} for release in releases
    ]
    assert letters[0] == letters[1] != {}


def test_a_carried_row_keeps_the_release_in_which_it_last_changed(nights: Any, own: Own, live: Release) -> None:
    release = nights.stage(TONIGHT, live)
    own.run(release, carry=ReusableVectors(live, placed))
    rows = release.storage.dataset("members").to_table().to_pylist()
    since = {row["member_id"]: row["release_id"] for row in rows}
    assert {member for member, name in since.items() if name == release.release_id} == {6, 40}
    assert {name for member, name in since.items() if member not in (6, 40)} == {live.release_id}


def test_a_carrying_night_writes_members_in_the_space_at_once(nights: Any, own: Own, live: Release) -> None:
    release = nights.stage(TONIGHT, live)
    own.run(release, carry=ReusableVectors(live, placed))
    assert release.storage.files("work/native/members") == []
    before, after = vectors(live, "members"), vectors(release, "members")
    assert {member for member in after if before.get(member) != after[member]} == {6, 40}
    assert all(release.completed_file(path) for path in release.storage.files("members"))


def test_a_carrying_night_says_who_changed_arrived_and_left(nights: Any, own: Own, live: Release) -> None:
    """Members 4 and 5 have no history any more, the encoder fails on 7."""
    release, config = nights.stage(TONIGHT | {7: [9, 9]}, live), own.config("FailsOnSeven")
    ShardWorker(config, release, ReusableVectors(live, placed)).encode(
        ShardBatch(tuple(job.shard_tasks(config, release, "members")[1:]))
    )
    rows = release.storage.dataset("changes").to_table()
    told = dict(zip(rows["member_id"].to_pylist(), rows["change"].to_pylist(), strict=True))
    assert told == {6: UPDATED, 40: ARRIVED, 4: DEPARTED, 5: DEPARTED, 7: DEPARTED}
    made = release.storage.dataset("members").to_table(filter=pc.field("release_id") == release.release_id)
    kept = rows.filter(pc.not_equal(rows["change"], DEPARTED)).drop_columns(["change"])
    assert kept.sort_by("member_id").equals(made.sort_by("member_id"))


def test_where_most_of_a_shard_was_encoded_it_says_nothing_more(nights: Any, own: Own, live: Release) -> None:
    release = nights.stage({member: [*titles, 1] for member, titles in HISTORIES.items()}, live)
    own.run(release, carry=ReusableVectors(live, placed))
    assert release.storage.files("changes") == []


def test_another_preprocessing_or_number_of_shards_carries_nothing(nights: Any, own: Own, live: Release) -> None:
    release = nights.stage(TONIGHT, live)
    metrics = own.run(release, carry=ReusableVectors(live, placed), min_cosine=0.5).metrics
    assert (metrics["carried"], metrics["carried_from"]) == (0, None)
    assert own.encoded == sorted(TONIGHT)


def test_a_damaged_vector_is_not_carried(nights: Any, own: Own, live: Release) -> None:
    path = "members/part-00000.parquet"
    data = bytearray(live.storage.read(path))
    data[100] ^= 1
    live.storage.write(path, bytes(data))
    with pytest.raises(CorruptError, match="part-00000"):
        own.run(nights.stage(TONIGHT, live), carry=ReusableVectors(live, placed))


# --- precision


@pytest.mark.parametrize(("kind", "chosen"), [("Tuned", "bf16"), ("Coarse", "fp32"), ("Titles", "own")])
def test_the_fast_precision_is_taken_where_its_vectors_are_good(nights: Any, own: Own, kind: str, chosen: str) -> None:
    release = nights.stage(HISTORIES)
    report = own.run(release, kind)
    assert report.metrics["precision"]["name"] == chosen
    exact = nights.stage(HISTORIES)
    own.run(exact, kind, precision="fp32")
    differs = vectors(release) != vectors(exact)
    assert differs == (chosen == "bf16")


def test_a_resumed_and_an_incremental_night_keep_the_precision(nights: Any, own: Own) -> None:
    release = nights.stage(HISTORIES)
    first = own.run(release, "Tuned")
    release.storage.delete("work/native/members/part-00002.parquet")
    assert own.run(release, "Tuned").metrics["precision"] == first.metrics["precision"]
    live = nights.seal(release, first, turned)
    tonight = own.run(nights.stage(TONIGHT, live), "Tuned", ReusableVectors(live, placed))
    assert tonight.metrics["precision"] == first.metrics["precision"]

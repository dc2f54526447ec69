import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from alignment import AlignmentConfig, AlignmentTransform, Gram, job
from alignment.shard_tasks import gram_of_shard
from stores.errors import AlignmentError, CorruptError, MismatchError

CONFIG = AlignmentConfig()

pytestmark = pytest.mark.usefixtures("ray_session")


def test_the_first_night_opens_the_space(service: Any, world: Any) -> None:
    report = service.align(world, "a")
    assert (report.metrics["outcome"], report.metrics["space_id"]) == ("new_space", "1")
    assert report.rows == 900
    release = service.nights[0]
    assert release.space_id == "1"
    for side in ("members", "titles"):
        native = release.storage.dataset(f"work/native/{side}").to_table()
        aligned = release.storage.dataset(side).to_table()
        assert aligned.schema == native.schema
        assert aligned.drop_columns("embedding") == native.drop_columns("embedding")
    scores = service.vectors("members") @ service.vectors("titles").T
    np.testing.assert_allclose(scores, world.scores, atol=1e-5 * np.abs(world.scores).max())
    assert report.metrics["score_error"] < 1e-10
    assert report.metrics["native_top_overlap"] > 0.999
    assert release.storage.read_table("reference.parquet").num_rows == 300


@pytest.mark.parametrize("text_ids", [False, True])
def test_a_retrain_joins_the_space(service: Any, world: Any, text_ids: bool) -> None:
    service.text_ids = text_ids
    service.align(world, "a")
    report = service.align(world.retrained(1, noise=0.05), "b")
    assert report.metrics["outcome"] == "same_space", report.metrics["reasons"]
    assert report.metrics["space_id"] == "1"
    assert report.metrics["heldout_cosine_p50"] > 0.99
    assert report.metrics["drift_yesterday"]["cosine_p50"] > 0.99
    assert (report.metrics["anchors_from_epoch"], report.metrics["anchor_age_days"]) == (1, 1)
    assert len(report.metrics["dimensions"]) == 12
    assert {"distance", "toward", "from", "title_id", "name", "beyond_noise"} == set(report.metrics["moved"][0])
    for side in ("members", "titles"):
        new, old = service.vectors(side), service.vectors(side, 0)
        assert np.linalg.norm(new - old) < 0.1 * np.linalg.norm(old)
    transform = AlignmentTransform.from_bytes(service.nights[1].storage.read("transform.safetensors"))
    assert transform.model_id == "b"
    assert transform.hash == report.metrics["transform_hash"]


def test_the_same_model_keeps_its_transform_bit_for_bit(service: Any, world: Any) -> None:
    service.align(world, "a")
    new = world.retrained(1, noise=0.05)
    service.align(new, "b")
    drifted = type(world)(new.members[:200], new.titles * 1.5)
    report = service.align(drifted, "b")
    assert report.metrics["reused"] is True
    assert report.metrics["outcome"] == "same_space"
    one, two = (night.storage.read("transform.safetensors") for night in service.nights[1:])
    assert one == two


def test_the_same_model_on_shuffled_members_is_refused(service: Any, world: Any) -> None:
    service.align(world, "a")
    order = np.random.default_rng(0).permutation(600)
    report = service.align(type(world)(world.members[order], world.titles), "a")
    assert (report.metrics["reused"], report.metrics["outcome"]) == (True, "refused")
    assert "held-out members" in report.metrics["reasons"][0]
    assert report.metrics["space_id"] == "2"


def test_shuffled_ids_are_refused_and_get_a_space_of_their_own(service: Any, world: Any) -> None:
    service.align(world, "a")
    order = np.random.default_rng(0).permutation(300)
    report = service.align(world.retrained(1), "b", titles=order)
    assert (report.metrics["outcome"], report.metrics["space_id"]) == ("refused", "2")
    assert "shuffled" in report.metrics["reasons"][0]
    assert report.metrics["moved"] == []


def test_a_space_number_is_never_used_twice(service: Any, world: Any, another_world: Callable[..., Any]) -> None:
    service.align(world, "a")
    first = service.align(another_world(seed=50), "b")
    assert (first.metrics["outcome"], first.metrics["space_id"]) == ("refused", "2")
    service.nights[1].seal(first.metrics["reasons"], [first], {})
    second = service.align(another_world(seed=51), "c", previous_release=service.nights[0].release_id)
    assert second.metrics["space_id"] == "3"


def test_members_hold_the_space_when_the_catalogue_is_renumbered(service: Any, world: Any) -> None:
    service.align(world, "a")
    report = service.align(world.retrained(1), "b", titles=np.arange(1000, 1300))
    assert report.metrics["outcome"] == "same_space", report.metrics["reasons"]
    assert report.metrics["anchors"] == {"titles": 0, "members": 600}
    np.testing.assert_allclose(service.vectors("titles"), service.vectors("titles", 0), atol=1e-4)


def test_too_few_anchors_open_a_new_space(service: Any, world: Any) -> None:
    service.align(world, "a")
    config = AlignmentConfig(member_anchors=0)
    ids = np.where(np.arange(300) < 8, np.arange(300), np.arange(300) + 1000)
    report = service.align(world.retrained(1), "b", titles=ids, config=config)
    assert report.metrics["outcome"] == "new_space"
    assert "anchors leave a rotation of 12 dimensions open" in report.metrics["reasons"][0]
    assert report.metrics["space_id"] == "2"


def test_new_titles_enter_the_reference_once_established(service: Any, world: Any) -> None:
    service.align(type(world)(world.members, world.titles[:250]), "a")
    plays = np.where(np.arange(300) < 280, 100, 1)
    service.align(world.retrained(1, noise=0.02), "b", plays=plays)
    table = service.nights[1].storage.read_table("reference.parquet")
    assert table["title_id"].to_pylist() == list(range(280))
    added = table.filter(pa.array(np.arange(280) >= 250))
    assert set(added["release_id"].to_pylist()) == {service.nights[1].release_id}
    first = service.nights[0].storage.read_table("reference.parquet")
    assert table.slice(0, 250) == first
    report = service.align(world.retrained(2, noise=0.02), "c")
    assert report.metrics["anchors"]["titles"] == 280
    assert report.metrics["anchors_from_epoch"] == pytest.approx(250 / 280)
    rolled_back = service.align(world.retrained(3), "d", previous_release=service.nights[0].release_id)
    assert rolled_back.metrics["anchors"]["titles"] == 250


def test_cold_titles_are_transformed_and_do_not_touch_the_fit(service: Any, world: Any) -> None:
    service.align(world, "a")
    new = world.retrained(1, noise=0.05)
    plays = np.where(np.arange(300) < 250, 100, 0)
    service.align(new, "b", plays=plays)
    noisy = type(world)(new.members, new.titles.copy())
    noisy.titles[250:] *= 40
    service.align(noisy, "b", plays=plays, previous_release=service.nights[0].release_id)
    one, two = (night.storage.read("transform.safetensors") for night in service.nights[1:])
    assert one == two
    np.testing.assert_allclose(service.vectors("titles")[250:], 40 * service.vectors("titles", 1)[250:], atol=1e-3)


def test_a_narrower_model_keeps_the_published_width(service: Any, world: Any) -> None:
    service.align(world, "a")
    narrow = type(world)(service.vectors("members")[:, :9], service.vectors("titles")[:, :9]).retrained(1)
    report = service.align(narrow, "b")
    assert report.metrics["outcome"] == "same_space", report.metrics["reasons"]
    assert (report.metrics["native_width"], report.metrics["width"]) == (9, 12)
    assert service.vectors("members").shape[1] == service.vectors("titles").shape[1] == 12


def test_what_is_finished_is_not_redone_and_what_is_damaged_is(service: Any, world: Any) -> None:
    service.align(world, "a")
    release = service.encode(world.retrained(1), "b")
    job.run(CONFIG, release)
    path = release.storage.local("members/part-00001.parquet")
    kept = release.storage.local("members/part-00002.parquet")
    before, stamp = path.read_bytes(), kept.stat().st_mtime_ns
    path.write_bytes(before[:-1])
    again = job.run(CONFIG, release)
    assert path.read_bytes() == before
    assert kept.stat().st_mtime_ns == stamp
    assert again.rows == 900


def test_rows_that_are_not_finite_are_named_with_their_file(service: Any, world: Any) -> None:
    spoiled = type(world)(world.members.copy(), world.titles)
    spoiled.members[4] = np.nan
    with pytest.raises(AlignmentError, match="positions 1 are not finite") as caught:
        service.align(spoiled, "a")
    assert caught.value.where == "work/native/members/part-00001.parquet"
    with pytest.raises(AlignmentError):
        gram_of_shard(service.nights[0], "work/native/members/part-00001.parquet", "members", 0)


def test_ids_of_another_kind_are_refused(service: Any, world: Any) -> None:
    service.align(world, "a")
    service.text_ids = True
    with pytest.raises(MismatchError, match="ids are string here and int64 in the reference"):
        service.align(world.retrained(1), "b")


def test_a_reference_that_is_gone_is_said(service: Any, world: Any) -> None:
    service.align(world, "a")
    service.nights[0].storage.delete("reference.parquet")
    with pytest.raises(CorruptError, match=r"reference\.parquet"):
        service.align(world.retrained(1), "b")


def test_shards_add_up_to_the_gram_of_all(service: Any, world: Any) -> None:
    release = service.encode(world, "a")
    paths = release.storage.files("work/native/members")
    merged = sum((gram_of_shard(release, path, "members", 0) for path in paths), Gram.zero(12))
    np.testing.assert_allclose(merged.moment, Gram.of(world.members.astype(np.float32)).moment, rtol=1e-12, atol=1e-9)


def test_members_that_were_encoded_into_the_space_are_judged_and_stay_as_they_are(service: Any, world: Any) -> None:
    natively = service.align(world, "a")
    natively = service.align(world, "a")
    before = service.vectors("members")
    report = service.align(world, "a", carried=service.nights[0])
    release = service.nights[-1]
    assert release.storage.files("work/native/members") == []
    np.testing.assert_array_equal(service.vectors("members"), before)
    assert report.rows == natively.rows
    for name in ("reused", "outcome", "anchors"):
        assert report.metrics[name] == natively.metrics[name]
    assert not [name for name in report.metrics if "native_top" in name]  # of what was turned back it would be 1
    assert report.metrics["heldout_cosine_p50"] == pytest.approx(natively.metrics["heldout_cosine_p50"], abs=1e-6)


def test_members_encoded_into_the_space_need_not_be_judged(service: Any, world: Any) -> None:
    config = CONFIG.model_copy(update={"member_anchors": 0})
    service.align(world, "a", config=config)
    assert service.align(world, "a", carried=service.nights[0], config=config).metrics["outcome"] == "same_space"


def test_members_of_someone_else_are_noticed_in_the_space_too(service: Any, world: Any) -> None:
    service.align(world, "a")
    other = type(world)(world.members[::-1].copy(), world.titles[::-1].copy())
    assert service.align(other, "a", carried=service.nights[0]).metrics["outcome"] == "refused"


@pytest.mark.parametrize("zero", ["members", "titles", "both"])
def test_a_side_of_zeros_with_the_alignment_off_leaves_numbers_in_every_report(
    service: Any, world: Any, zero: str
) -> None:
    """Reports are JSON, which has no word for NaN or Infinity."""
    off = AlignmentConfig(mode="off")
    members, titles = (
        np.zeros_like(side) if zero in (name, "both") else side
        for name, side in (("members", world.members), ("titles", world.titles))
    )
    for model in ("a", "b"):
        release = service.encode(type(world)(members, titles), model)
        report = release.run_stage("align", lambda release=release: job.run(off, release))
        json.dumps(report.model_dump(mode="json"), allow_nan=False)
        assert report.metrics["energy_kept"] == 1

"""The optional features of a night, with a small encoder that offers them."""

import os
import signal
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from alignment.transform import AlignmentTransform
from embeddings.encode.config import EncodeConfig
from embeddings.encode.encoder import PREFERENCES
from pipeline import optional_features
from pipeline.config import FeaturesConfig
from stores import ray_pool
from stores.errors import ConfigError, EncoderError
from stores.releases.release import Release
from stores.releases.workspace import Workspace
from stores.schema import history_schema
from tests.stores.conftest import NIGHT, Nights

pytestmark = pytest.mark.usefixtures("ray_session")
GENRES = ["crime", "drama", "Zauberei"]


class Generous:
    """Offers genres and preferences."""

    model_id, dim = "m", 8

    def encode_members(self, histories):
        return np.zeros((histories.num_rows, 8), np.float32)

    def encode_titles(self, titles):
        return np.zeros((titles.num_rows, 8), np.float32)

    def encode_genres(self):
        return GENRES, np.eye(3, 8, dtype=np.float32)

    def preferences(self, histories):
        rows = histories.num_rows
        made = [[["crime"]] * rows, [[1.0]] * rows, [[]] * rows, [[]] * rows]
        return pa.table([pa.array(one, f.type) for one, f in zip(made, PREFERENCES, strict=True)], schema=PREFERENCES)


class DiesOnce(Generous):
    """Kills its worker, as the kernel does when memory is short, the first time that it is asked."""

    deaths = 1

    def __init__(self, folder):
        self.folder = Path(folder)

    @classmethod
    def load(cls, path):
        return cls(path)

    def preferences(self, histories):
        if len(list(self.folder.glob("died-*"))) < self.deaths:
            (self.folder / f"died-{os.getpid()}").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().preferences(histories)


class DiesAlways(DiesOnce):
    deaths = 10**6


class Hangs(Generous):
    """Never comes back from loading."""

    def __init__(self):
        time.sleep(10**6)


class Modest:
    """An encoder and no more."""

    model_id, dim = "m", 8
    encode_members, encode_titles = Generous.encode_members, Generous.encode_titles


def staged(nights, previous, titles):
    """A release being built that has histories, members, titles and a transform which turns the first two axes."""
    number = len(nights.made)
    sealed = nights.seal(dict.fromkeys(range(9), 1), titles)
    plan = sealed.plan.model_copy(update={"previous_release": previous})
    nights.workspace.remove(sealed)
    release = nights.workspace.stage(plan, token=0)
    release.token = None
    for shard in range(3):
        ids = list(range(shard, 9, 3))
        members = dict.fromkeys(ids[:2], 1)  # the third one was refused by the encoder
        release.write_table(f"members/part-{shard:05}.parquet", nights.member_table(members, plan.release_id))
        schema = history_schema(pa.int64(), pa.int64())
        lists = {"member_id": ids, "event_time": [NIGHT] * 3, "history_hash": ["h"] * 3}
        rows = [pa.array(lists.get(f.name, [[]] * 3), f.type) for f in schema]
        release.write_table(f"histories/part-{shard:05}.parquet", pa.table(rows, schema=schema))
    release.write_table("titles/part-00000.parquet", nights.title_table(titles, plan.release_id))
    turn = np.eye(8)
    turn[:2, :2] = [[0, 1], [-1, 0]]
    release.write_bytes("transform.safetensors", AlignmentTransform(turn, turn, np.ones(8), "orthogonal", 8).to_bytes())
    assert number == len(nights.made) - 1
    return release


@pytest.fixture
def nights(tmp_path):
    return Nights(Workspace.open(str(tmp_path / "ws")), "")


def test_features_are_written_stamped_and_stay_within_a_space(nights):
    everything = FeaturesConfig(genres=True, semantic_ids=True, preferences=True)
    encode = EncodeConfig(encoder=f"{__name__}:Generous")
    first = staged(nights, None, dict.fromkeys(range(40), 1))
    report = optional_features.run(everything, encode, first)
    assert report.metrics == {"genres": 3, "semantic_ids": 40, "preferences": 6}
    genres = first.storage.read_table("genres/part-00000.parquet")
    assert genres["genre"].to_pylist() == GENRES
    assert genres["embedding"].to_pylist()[0][:2] == [0.0, 1.0]  # through the transform of the titles
    ids = first.storage.read_table("semantic_ids/part-00000.parquet")
    assert len({tuple(one) for one in ids["semantic_id"].to_pylist()}) == 40
    assert optional_features.run(everything, encode, first).metrics == report.metrics
    first.seal([], [], {})

    second = staged(nights, first.release_id, {**dict.fromkeys(range(40), 1), 3: 2, 40: 1})
    optional_features.run(everything, encode, second)
    again = second.storage.read_table("semantic_ids/part-00000.parquet")
    before, after = (
        dict(zip(t["title_id"].to_pylist(), t["semantic_id"].to_pylist(), strict=True)) for t in (ids, again)
    )
    assert {i: after[i] for i in before if i != 3} == {i: before[i] for i in before if i != 3}
    assert len({tuple(one) for one in after.values()}) == 41
    since = dict(zip(again["title_id"].to_pylist(), again["release_id"].to_pylist(), strict=True))
    assert since[0] == first.release_id
    assert since[40] == second.release_id
    assert second.storage.read(optional_features.CODEBOOKS) == first.storage.read(optional_features.CODEBOOKS)
    second.seal([], [], {})
    assert Release(nights.workspace.uri, second.release_id).verify() == []


def test_an_encoder_that_offers_nothing_is_named(nights):
    release = staged(nights, None, dict.fromkeys(range(4), 1))
    with pytest.raises(ConfigError, match="offers no encode_genres"):
        optional_features.run(FeaturesConfig(genres=True), EncodeConfig(encoder=f"{__name__}:Modest"), release)
    with pytest.raises(ConfigError, match="offers no preferences"):
        optional_features.run(FeaturesConfig(preferences=True), EncodeConfig(encoder=f"{__name__}:Modest"), release)


def test_workers_that_die_are_replaced_and_what_keeps_killing_is_named(nights, tmp_path, monkeypatch):
    release, preferences = staged(nights, None, dict.fromkeys(range(4), 1)), FeaturesConfig(preferences=True)
    encode = EncodeConfig(encoder=f"{__name__}:DiesOnce", model=str(tmp_path))
    assert optional_features.run(preferences, encode, release).metrics == {"preferences": 6}
    assert len(list(tmp_path.glob("died-*"))) == DiesOnce.deaths
    monkeypatch.setattr(ray_pool, "MAX_DEATHS", 2)
    release = staged(nights, None, dict.fromkeys(range(4), 1))
    with pytest.raises(EncoderError, match="preferences workers keep dying") as caught:
        optional_features.run(preferences, encode.model_copy(update={"encoder": f"{__name__}:DiesAlways"}), release)
    assert caught.value.where.startswith("histories/part-")


def test_an_encoder_that_hangs_while_it_loads_ends_with_its_name(nights):
    release = staged(nights, None, dict.fromkeys(range(4), 1))
    encode = EncodeConfig(encoder=f"{__name__}:Hangs", load_timeout_s=2.0)
    with pytest.raises(EncoderError, match="was ready 2 s after") as caught:
        optional_features.run(FeaturesConfig(preferences=True), encode, release)
    assert "Hangs" in caught.value.fix

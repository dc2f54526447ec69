"""Optional views: what Feast serves equals the release's Parquet, online and as of any night, for every type."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stores import schema
from stores.feast.feature_views import CANDIDATES, GENRES, PREFERENCES, SEMANTIC_IDS, VIEWS
from stores.feast.release_diff import bitwise_changed, with_versions
from stores.feast.serialization import serialize_column
from stores.publishing import publish
from tests.stores.conftest import NIGHT, vectors

pytestmark = [
    pytest.mark.filterwarnings(r"ignore:fetch_arrow_table\(\) is deprecated:DeprecationWarning"),
    # Feast's Dask store, which reads a workspace on an object store, fills missing times in a way pandas will change.
    pytest.mark.filterwarnings("ignore:Downcasting object dtype arrays:FutureWarning"),
]
OPTIONAL = [view for view in VIEWS if view.optional]
PATHS = {view: f"{view.folder}/part-00000.parquet" for view in OPTIONAL}


def floats(i, seed, n):
    return np.random.default_rng([i, seed]).random(n, dtype=np.float32).tolist()


def optional(seeds: dict[int, int], origin: dict, ids=int) -> dict[str, pa.Table]:
    """One file of every optional view; entity i has values made from `seeds[i]`, of lengths that differ."""
    numbers, kept = list(seeds), list(seeds.values())
    since = [origin[i, seed] for i, seed in seeds.items()]
    stamp = {"release_id": pa.array(since), "encoded_at": pa.array([NIGHT] * len(kept), schema.TIMESTAMP_TYPE)}
    lists = {
        "semantic_id": pa.array([[i, s, 0] for i, s in seeds.items()], pa.list_(pa.int32())),
        "genres": pa.array([[f"g{n}" for n in range(i % 4)] for i in numbers], pa.list_(pa.string())),
        "genre_share": pa.array([floats(i, s, i % 4) for i, s in seeds.items()], pa.list_(pa.float32())),
        "languages": pa.array([["en", "é"]] * len(kept), pa.list_(pa.string())),
        "language_share": pa.array([[0.5, s / 10] for s in kept], pa.list_(pa.float32())),
        "title_ids": pa.array([[ids(i + s), ids(i)] for i, s in seeds.items()]),
        "scores": pa.array([floats(i, s, 2) for i, s in seeds.items()], pa.list_(pa.float32())),
        "embedding": vectors(seeds),
    }
    keys = {"genre": pa.array([f"genre {i}" for i in numbers]), "member": pa.array([ids(i) for i in numbers])}
    keys["title"] = keys["member"]
    return {
        PATHS[view]: pa.table({view.join_key: keys[view.entity], **{c: lists[c] for c in view.columns}, **stamp})
        for view in OPTIONAL
    }


def rows_of(release, view):
    """The release's rows of a view by id; None where the release has no such file."""
    if not release.storage.exists(PATHS[view]):
        return {}
    table = release.storage.read_table(PATHS[view])
    names = [*view.columns, "release_id"]
    return {row[view.join_key]: {name: row[name] for name in names} for row in table.to_pylist()}


def keys(view, ids):
    return [f"genre {i}" for i in range(7)] if view is GENRES else [ids(i) for i in range(7)]


def online(look, nights, view):
    names = [*view.columns, "release_id"]
    wanted = keys(view, nights.ids)
    served = look.store(nights).get_online_features(
        [f"{view.name}:{name}" for name in names], [{view.join_key: one} for one in wanted]
    )
    found = served.to_dict()
    rows = {one: {name: found[name][at] for name in names} for at, one in enumerate(wanted)}
    return {one: row for one, row in rows.items() if row["release_id"] is not None}


def same(left, right):
    """Equal, floats by their bits."""
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(same(left[key], right[key]) for key in left)
    left, right = ([] if one is None else one for one in (left, right))
    if isinstance(left, str):
        return left == right
    if len(left) and isinstance(left[0], float):
        return np.asarray(left, np.float32).tobytes() == np.asarray(right, np.float32).tobytes()
    return list(left) == list(right)


@pytest.fixture
def optional_nights(nights, config):
    """Three nights and a rollback with every view on: one entity changes, one leaves, one comes; the last has none."""
    seeds = [dict.fromkeys(range(6), 1), {**dict.fromkeys(range(5), 1), 2: 2, 6: 1}]
    origin = {}
    first = "20260701T020000Z-0000"
    origin |= dict.fromkeys(seeds[0].items(), first)
    origin |= {(i, s): "20260702T020000Z-0001" for i, s in seeds[1].items() if (i, s) not in origin}
    plain = dict.fromkeys(range(6), 1), {0: 1}
    made = [nights.seal(*plain, more=optional(one, origin, nights.ids)) for one in seeds] + [nights.seal(*plain)]
    live = []
    for release in made:
        publish.publish(nights.workspace, release, config)
        live.append((datetime.fromisoformat(nights.workspace.pointer()["promoted_at"]), release))
    return live


def test_every_view_serves_what_the_release_holds(nights, config, look, optional_nights):
    (_, first), (_, second), _ = optional_nights
    assert all(online(look, nights, view) == {} for view in OPTIONAL)  # the third night has none of them
    for release in (second, first):
        publish.promote(nights.workspace, release.release_id, config)
        for view in OPTIONAL:
            assert same(rows_of(release, view), online(look, nights, view)), (view.name, release)


def test_every_view_answers_as_of_any_night(nights, config, look, optional_nights):
    publish.rollback(nights.workspace, config)
    moves = [
        *optional_nights,
        (datetime.fromisoformat(nights.workspace.pointer()["promoted_at"]), optional_nights[1][1]),
    ]
    moments = [moves[0][0] - timedelta(seconds=1), *(since for since, _ in moves), datetime.now(UTC)]
    for view in OPTIONAL:
        pairs = [(one, moment) for moment in moments for one in keys(view, nights.ids)]
        frame = pd.DataFrame(pairs, columns=[view.join_key, "event_timestamp"])
        names = [*view.columns, "release_id"]
        found = look.store(nights).get_historical_features(frame, [f"{view.name}:{name}" for name in names]).to_df()
        assert len(found) == len(pairs)
        for row in found.to_dict("records"):
            live = [release for since, release in moves if since <= row["event_timestamp"].to_pydatetime()]
            expected = rows_of(live[-1], view).get(row[view.join_key]) if live else None
            if expected is None:
                assert pd.isna(row["release_id"]), row
            else:
                assert same({name: row[name] for name in names}, expected), row


def test_string_ids_have_string_candidates(text_nights, config, look):
    seeds = dict.fromkeys(range(4), 1)
    more = optional(seeds, {(i, 1): "20260701T020000Z-0000" for i in seeds}, text_nights.ids)
    release = text_nights.seal({0: 1}, {0: 1}, more=more)
    publish.publish(text_nights.workspace, release, config)
    assert same(rows_of(release, CANDIDATES), online(look, text_nights, CANDIDATES))


def test_a_service_for_each_optional_view_and_the_embeddings_as_ever(local_nights, config, look):
    more = optional({0: 1}, {(0, 1): "20260701T020000Z-0000"})
    publish.publish(local_nights.workspace, local_nights.seal({0: 1}, {0: 1}, more=more), config)
    services = {
        s.name: [v.name for v in s.feature_view_projections] for s in look.store(local_nights).list_feature_services()
    }
    assert services.pop("embeddings_v1") == ["member_embedding", "title_embedding"]
    assert services == {f"{view.name}_v1": [view.name] for view in OPTIONAL}


ROW = st.none() | st.lists(st.sampled_from([0.0, -0.0, 1.5, float("nan")]), max_size=3)


@settings(deadline=None)
@given(st.lists(st.tuples(ROW, ROW), min_size=1, max_size=8))
def test_rows_change_if_their_bits_do(pairs):
    old, new = (pa.array([pair[side] for pair in pairs], pa.list_(pa.float32())) for side in (0, 1))

    def bits(row):
        return None if row is None else np.asarray(row, np.float32).tobytes()

    assert bitwise_changed(old, new).tolist() == [bits(a) != bits(b) for a, b in pairs]
    assert bitwise_changed(new, new).tolist() == [False] * len(pairs)


@pytest.mark.parametrize(
    "column",
    [
        pa.array([[1.5], [], [2.0, -0.0], None], pa.list_(pa.float32())),
        pa.array([["a", "é"], [], None], pa.list_(pa.string())),
        pa.array([[1, -(2**40)], []], pa.list_(pa.int64())),
        pa.array([[1, -2], []], pa.list_(pa.int32())),
        pa.array(["x", None, "x"]),
        pa.array([NIGHT, None], schema.TIMESTAMP_TYPE),
    ],
)
def test_values_are_what_feast_makes_of_the_same_column(column):
    from feast.protos.feast.types.Value_pb2 import Value
    from feast.type_map import feast_value_type_to_python_type

    made = [feast_value_type_to_python_type(Value.FromString(value)) for value in serialize_column(column)]
    expected = [[] if row is None and pa.types.is_nested(column.type) else row for row in column.to_pylist()]
    assert [[] if row is None and pa.types.is_nested(column.type) else row for row in made] == expected


def test_a_row_keeps_its_origin_until_it_changes(nights):
    origin = {(i, 1): "20260701T020000Z-0000" for i in range(6)}
    first = nights.seal({0: 1}, {0: 1}, more=optional(dict.fromkeys(range(6), 1), origin))
    plan = first.plan.model_copy(update={"release_id": "20260801T020000Z-0009", "previous_release": first.release_id})
    staged = nights.workspace.stage(plan, token=0)
    later = {(i, s): "changed" for i in range(7) for s in (1, 2)}
    for view in (PREFERENCES, SEMANTIC_IDS, GENRES, CANDIDATES):
        new = optional({**dict.fromkeys(range(5), 1), 2: 2, 6: 1}, later)[PATHS[view]].drop_columns(
            ["release_id", "encoded_at"]
        )
        found = with_versions(view, staged, PATHS[view], new)
        expected = [first.release_id if i not in (2, 6) else staged.release_id for i in (0, 1, 2, 3, 4, 6)]
        assert found["release_id"].to_pylist() == expected, view.name

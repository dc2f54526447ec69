"""The simulated lake: the same bytes for the same seed, sound unless asked otherwise, planted structure visible."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from stores import schema
from stores.errors import UsageError
from stores.files.filesystem import Storage
from stores.lake.contract import Lake
from stores.lake.simulation import simulate as module
from stores.lake.simulation.config import END
from stores.lake.simulation.simulate import SimulationConfig, simulate

SMALL = SimulationConfig(members=300, titles=150, days=20, clusters=5, sessions_per_day=0.6)


def table(lake: Path, name: str) -> pa.Table:
    return Storage(str(lake)).dataset(name).to_table()


def contents(lake: Path) -> dict[str, bytes]:
    return {path: Storage(str(lake)).read(path) for path in Storage(str(lake)).files()}


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("sound")
    simulate(str(out), SMALL)
    return out


@pytest.fixture(scope="module")
def plays(lake: Path) -> pa.Table:
    """The plays in the order of time, with the truth about their titles."""
    rows = table(lake, "interactions").filter(pc.field(schema.ACTION) == "play")
    return rows.join(pq.read_table(lake / "_truth/titles.parquet"), schema.TITLE_ID).sort_by(
        [(schema.MEMBER_ID, "ascending"), (schema.EVENT_TIME, "ascending")]
    )


def test_the_same_configuration_gives_the_same_bytes_and_another_seed_does_not(lake: Path, tmp_path: Path) -> None:
    simulate(str(tmp_path / "again"), SMALL)
    simulate(str(tmp_path / "other"), SMALL.model_copy(update={"seed": 1}))
    assert contents(tmp_path / "again") == contents(lake)
    assert table(tmp_path / "other", "interactions") != table(lake, "interactions")


def test_the_returned_counts_are_those_of_the_tables(tmp_path: Path) -> None:
    counts = simulate(str(tmp_path), SMALL.model_copy(update={"broken": 0.05}))
    rows = {name: Storage(str(tmp_path)).dataset(name).count_rows() for name in counts if name != "broken"}
    assert counts == {**rows, "broken": sum(pq.read_table(tmp_path / "_truth/broken.parquet")["rows"].to_pylist())}


def test_the_tables_follow_the_contract_and_the_truth_is_not_one_of_them(lake: Path) -> None:
    opened = Lake.open(str(lake))
    assert sorted(opened.tables) == ["impressions", "interactions", "members", "titles"]
    for part in opened.tables.values():
        assert not part.broken
        assert set(part.present) == {column.name for column in part.contract}
    assert opened.id_type(schema.MEMBER_ID) == opened.id_type(schema.TITLE_ID) == pa.int64()


def test_ids_refer_to_members_and_titles_that_exist(lake: Path) -> None:
    known = {name: set(table(lake, f"{name[:-3]}s")[name].to_pylist()) for name in (schema.MEMBER_ID, schema.TITLE_ID)}
    for name in ("interactions", "impressions"):
        rows = table(lake, name)
        for column, ids in known.items():
            assert set(rows[column].to_pylist()) <= ids
    assert len(known[schema.TITLE_ID]) == table(lake, "titles").num_rows == SMALL.titles
    assert len(set(table(lake, "titles")[schema.NAME].to_pylist())) == SMALL.titles


def test_days_end_at_the_fixed_date_and_files_hold_the_day_in_their_folder(lake: Path) -> None:
    times = table(lake, "interactions")[schema.EVENT_TIME]
    assert pc.max(times).as_py() < END
    assert (END - pc.min(times).as_py()).days < SMALL.days
    for file in (lake / "interactions").rglob("*.parquet"):
        days = pc.strftime(pq.ParquetFile(file).read()[schema.EVENT_TIME], "%Y-%m-%d")
        assert pc.unique(days).to_pylist() == [file.parent.name.removeprefix("date=")]


@pytest.mark.parametrize(("name", "moment"), [("interactions", schema.EVENT_TIME), ("impressions", "shown_at")])
def test_nothing_is_shown_or_played_before_its_launch_elsewhere_or_to_the_too_young(
    lake: Path, name: str, moment: str
) -> None:
    wanted = [schema.TITLE_ID, "launch_time", "available_countries", "maturity"]
    titles = table(lake, "titles").select(wanted).to_pandas().set_index(schema.TITLE_ID)
    members = table(lake, "members").to_pandas().set_index(schema.MEMBER_ID)
    rows = table(lake, name).to_pandas()
    title, member = titles.loc[rows[schema.TITLE_ID]], members.loc[rows[schema.MEMBER_ID]]
    assert (rows[moment].to_numpy() >= title["launch_time"].to_numpy()).all()
    assert (title["maturity"].to_numpy() <= member["maturity"].to_numpy()).all()
    assert all(c in there for c, there in zip(member[schema.COUNTRY], title["available_countries"], strict=True))


def test_some_titles_launch_during_the_days_and_are_played(lake: Path, plays: pa.Table) -> None:
    first = pc.min(plays[schema.EVENT_TIME])
    launched = table(lake, "titles").filter(pc.greater(table(lake, "titles")["launch_time"], first))
    assert launched.num_rows > 0
    assert set(launched[schema.TITLE_ID].to_pylist()) & set(plays[schema.TITLE_ID].to_pylist())


def test_members_play_the_clusters_of_their_planted_taste(lake: Path, plays: pa.Table) -> None:
    truth = pq.read_table(lake / "_truth/members.parquet")
    taste = np.stack(truth["taste_start"].to_numpy())
    assert np.allclose(taste.sum(axis=1), 1, atol=1e-5)
    cluster, member = plays["cluster"].to_numpy(), plays[schema.MEMBER_ID].to_numpy() - 1
    shuffled = np.random.default_rng(0).permutation(cluster)
    assert taste[member, cluster].mean() > 2 * taste[member, shuffled].mean()


def test_titles_of_one_cluster_are_played_by_the_same_members_above_chance(plays: pa.Table) -> None:
    cluster, member = plays["cluster"].to_numpy(), plays[schema.MEMBER_ID].to_numpy()
    together = member[1:] == member[:-1]
    same = (cluster[1:] == cluster[:-1])[together].mean()
    shares = np.bincount(cluster) / len(cluster)
    assert same > 1.5 * (shares**2).sum()


def test_the_next_part_of_a_franchise_tends_to_follow(plays: pa.Table) -> None:
    title, follow_up = plays[schema.TITLE_ID].to_numpy(), plays["follow_up"].to_numpy(zero_copy_only=False)
    member = plays[schema.MEMBER_ID].to_numpy()
    due = (member[1:] == member[:-1]) & ~np.isnan(follow_up[:-1])
    assert (title[1:] == follow_up[:-1])[due].mean() > 0.45


def test_the_parts_of_a_franchise_are_of_one_cluster_and_launch_in_their_order(lake: Path) -> None:
    truth = pq.read_table(lake / "_truth/titles.parquet").to_pylist()
    launches = table(lake, "titles")["launch_time"].to_pylist()
    chained = [row for row in truth if row["follow_up"] is not None]
    assert chained
    for row in chained:
        following = truth[row["follow_up"] - 1]
        assert (following["cluster"], following["franchise"]) == (row["cluster"], row["franchise"])
        assert following["episode"] == row["episode"] + 1
        assert launches[row["title_id"] - 1] <= launches[following["title_id"] - 1]


def test_genres_language_and_content_vectors_tell_the_cluster(lake: Path) -> None:
    titles = table(lake, "titles")
    cluster = pq.read_table(lake / "_truth/titles.parquet")["cluster"].to_numpy()
    vectors = np.stack(titles[schema.EMBEDDING].to_numpy())
    centres = np.stack([vectors[cluster == one].mean(axis=0) for one in range(SMALL.clusters)])
    assert ((vectors @ centres.T).argmax(axis=1) == cluster).mean() > 0.9
    assert all(1 <= len(genres) <= 3 for genres in titles["genres"].to_pylist())
    for one in range(SMALL.clusters):
        listed = [genres for genres, c in zip(titles["genres"].to_pylist(), cluster, strict=True) if c == one]
        usual = max({genre for genres in listed for genre in genres}, key=lambda g: sum(g in row for row in listed))
        assert sum(usual in row for row in listed) > len(listed) / 2


def test_plays_come_mostly_from_what_was_shown_and_shown_places_count_from_zero(lake: Path, plays: pa.Table) -> None:
    impressions = table(lake, "impressions")
    keys = (schema.MEMBER_ID, schema.TITLE_ID)
    shown = set(zip(*(impressions[key].to_pylist() for key in keys), strict=True))
    played = list(zip(*(plays[key].to_pylist() for key in keys), strict=True))
    assert 0.8 < sum(pair in shown for pair in played) / len(played) < 1
    assert set(impressions["position"].to_pylist()) <= set(range(SMALL.slate_size))
    pages = impressions.group_by([schema.MEMBER_ID, "shown_at"]).aggregate([("position", "min"), ("position", "max"), ("position", "count")])  # fmt: skip  # noqa: E501
    assert pc.max(pages["position_min"]).as_py() == 0
    assert pc.all(pc.equal(pc.add(pages["position_max"], 1), pages["position_count"])).as_py()


def test_durations_completions_and_thumbs_are_plausible(lake: Path, plays: pa.Table) -> None:
    runtime = table(lake, "titles")["runtime_s"].to_numpy()[plays[schema.TITLE_ID].to_numpy() - 1]
    watched, completion = plays[schema.DURATION].to_numpy(), plays[schema.VALUE].to_numpy()
    assert ((watched > 0) & (watched <= runtime)).all()
    assert np.allclose(completion, watched / runtime, atol=1e-4)
    rows = table(lake, "interactions")
    taste = np.stack(pq.read_table(lake / "_truth/members.parquet")["taste_start"].to_numpy())
    cluster = pq.read_table(lake / "_truth/titles.parquet")["cluster"].to_numpy()
    fit = {}
    for action in ("thumb_up", "thumb_down"):
        judged = rows.filter(pc.field(schema.ACTION) == action)
        liked = cluster[judged[schema.TITLE_ID].to_numpy() - 1]
        fit[action] = taste[judged[schema.MEMBER_ID].to_numpy() - 1, liked].mean()
    assert fit["thumb_up"] > fit["thumb_down"]


def test_nothing_is_broken_unless_asked(lake: Path) -> None:
    rows = table(lake, "interactions")
    assert sum(pq.read_table(lake / "_truth/broken.parquet")["rows"].to_pylist()) == 0
    for column in (schema.MEMBER_ID, schema.TITLE_ID, schema.EVENT_TIME, schema.ACTION):
        assert rows[column].null_count == 0
    assert set(rows[schema.ACTION].to_pylist()) <= set(schema.ACTIONS)
    assert rows.group_by(rows.column_names).aggregate([]).num_rows == rows.num_rows


def test_blocks_of_members_are_all_simulated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BLOCK", 70)
    simulate(str(tmp_path), SMALL)
    parts = {file.name for file in (tmp_path / "interactions").rglob("*.parquet")}
    assert len(parts) == -(-SMALL.members // 70)
    seen = set(table(tmp_path, "interactions")[schema.MEMBER_ID].to_pylist())
    assert all(seen & set(range(low, low + 70)) for low in range(1, SMALL.members - 70, 70))


@pytest.mark.parametrize(
    "config",
    [
        SimulationConfig(members=1, titles=2, days=1),
        SimulationConfig(members=50, titles=5, days=3, clusters=12, slate_size=1, franchise_share=0.0),
        SimulationConfig(members=50, titles=30, days=3, launching_share=1.0, franchise_share=1.0),
    ],
)
def test_extreme_configurations_still_make_a_lake(config: SimulationConfig, tmp_path: Path) -> None:
    counts = simulate(str(tmp_path), config)
    assert (counts["titles"], counts["members"]) == (config.titles, config.members)


def test_a_place_that_holds_something_is_refused(tmp_path: Path) -> None:
    (tmp_path / "titles").mkdir()
    with pytest.raises(UsageError, match="something in the place"):
        simulate(str(tmp_path), SMALL)
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="is a file"):
        simulate(str(tmp_path / "file"), SMALL)

"""Anything may be in a lake, a configuration, a dead letter or a damaged file: the answer is right or a typed error.

`SAMESPACE_FUZZ=2000 pytest tests/chaos/test_fuzz.py` tries more, and other things every time.
"""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alignment import AlignmentTransform, Gram, fit
from embeddings.histories.job import HistoriesConfig, read_histories, tokenise
from pipeline.config import Config, read_config
from retrieval import TitleIndex
from stores.errors import (
    ConfigError,
    ContractError,
    CorruptError,
    MismatchError,
    NotFoundError,
    SamespaceError,
    StoreError,
)
from stores.files.parquet import parquet_bytes
from stores.lake.contract import Lake
from stores.releases.dead_letter import group_tables, rejected_row, rejected_summary, rejected_table
from stores.releases.manifest import FileEntry, Manifest, Plan, parse_manifest
from tests.chaos.damage import damage_file, damaged, damages, fuzz

NOW = datetime(2026, 1, 1, tzinfo=UTC)
LENIENT = HistoriesConfig(max_bad_fraction=1.0)

times = st.one_of(st.none(), st.datetimes(datetime(1800, 1, 1), datetime(2200, 1, 1)), st.just(datetime(1970, 1, 1)))
numbers = st.one_of(st.none(), st.floats(width=32))
actions = st.one_of(st.none(), st.sampled_from(["play", "rate", "thumb_up"]), st.text(max_size=8))


def refusal(kind: Any, call: Callable[[], Any]) -> SamespaceError | None:
    """The error of a kind that a call raises, or None; any other is a crash."""
    try:
        call()
    except kind as error:
        found: SamespaceError = error
        return found
    return None


@st.composite
def lakes(draw: st.DrawFn) -> tuple[pa.Table, bool]:
    """Interactions of one kind of ids with anything in them, and whether some optional columns are left out."""
    text = draw(st.booleans())
    kind = pa.string() if text else pa.int64()
    some = st.one_of(st.none(), st.text(max_size=20) if text else st.integers(-(2**63), 2**63 - 1))
    pool = draw(st.lists(some, min_size=1, max_size=4))
    rows = draw(st.lists(st.tuples(*[st.sampled_from(pool)] * 2, times, actions, numbers, numbers), max_size=25))
    members, titles, when, what, lasted, values = zip(*rows, strict=True) if rows else ((),) * 6
    table = {
        "member_id": pa.array(members, kind),
        "title_id": pa.array(titles, kind),
        "event_time": pa.array(when, pa.timestamp("us", "UTC")),
        "action": pa.array(what, pa.string()),
    }
    if draw(st.booleans()):
        table |= {"duration_s": pa.array(lasted, pa.float64()), "value": pa.array(values, pa.float64())}
    return pa.table(table), text


@fuzz(30)
@given(lakes())
def test_whatever_rows_a_lake_has_they_are_tokens_or_refused(lake: tuple[pa.Table, bool]) -> None:
    table, _ = lake
    try:
        histories = tokenise(table, config=LENIENT)
    except (NotFoundError, ContractError):
        assert not any(map(sound, table.to_pylist()))
        return
    accepted = sum(map(sum, histories["events"].to_pylist()))
    good = [row for row in table.to_pylist() if sound(row)]
    seen = [{name: finite(cell) if isinstance(cell, float) else cell for name, cell in row.items()} for row in good]
    assert len({repr(row) for row in seen}) == accepted
    assert set(histories["member_id"].to_pylist()) == {row["member_id"] for row in good}


def sound(row: dict[str, Any]) -> bool:
    """Whether a row keeps the contract, from its words."""
    needed = [row["member_id"], row["title_id"], row["event_time"]]
    lasted = row.get("duration_s")
    there = None not in needed and row["action"] in LENIENT.actions and (finite(lasted) is None or lasted >= 0)
    return there and LENIENT.earliest <= row["event_time"] <= datetime.now(UTC)


def finite(number: float | None) -> float | None:
    """A number, None where it is not finite: a missing cell."""
    return number if number is not None and abs(number) < float("inf") else None


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sound lake of three files of interactions and one of titles."""
    folder = tmp_path_factory.mktemp("lake")
    rng = np.random.default_rng(0)
    for part in range(3):
        when = pa.array(1_700_000_000_000_000 + rng.integers(0, 10**12, 200), pa.timestamp("us", "UTC"))
        rows = {"member_id": rng.integers(0, 20, 200), "title_id": rng.integers(0, 9, 200), "event_time": when}
        path = folder / "interactions" / f"part-{part}.parquet"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(parquet_bytes(pa.table(rows | {"action": ["play"] * 200})))
    (folder / "titles").mkdir()
    (folder / "titles" / "part-0.parquet").write_bytes(parquet_bytes(pa.table({"title_id": np.arange(9)})))
    return folder


@fuzz(25)
@given(damages(), st.sampled_from(["interactions/part-1.parquet", "titles/part-0.parquet"]))
def test_a_damaged_file_of_the_lake_costs_at_most_its_rows(lake: Path, damage: Any, name: str) -> None:
    found: list[pa.Table] = []
    before = damage_file(lake / name, damage)
    error = refusal(SamespaceError, lambda: found.append(read_histories(Lake.open(str(lake)), NOW, LENIENT)[0]))
    (lake / name).write_bytes(before)
    assert error is None or name.startswith("titles"), error
    assert not isinstance(error, StoreError), error
    if found and name.startswith("interactions"):
        assert sum(map(sum, found[0]["events"].to_pylist())) >= 350


names = [section for section in Config.model_fields if section not in ("lake", "workspace")]
keys = st.one_of(
    st.sampled_from([f"{one}.{key}" for one in names for key in Config.model_fields[one].annotation.model_fields]),  # type: ignore[union-attr]
    st.text(max_size=12),
)
values = st.one_of(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    ).map(json.dumps),
    st.text(max_size=12),
)


@fuzz(200)
@given(st.lists(st.tuples(keys, values), max_size=3))
def test_a_setting_is_used_or_refused_by_name(settings: list[tuple[str, str]]) -> None:
    try:
        assert isinstance(read_config(None, [f"{key}={value}" for key, value in settings]), Config)
    except ConfigError:
        return


@fuzz(60)
@given(st.binary(max_size=60), damages())
def test_a_configuration_file_is_used_or_refused(tmp_path_factory: Any, data: bytes, damage: Any) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzz.toml"
    sound = b'lake = "lake"\n[encode]\nbatch_size = 64\n[publish.online_store]\ntype = "sqlite"\n'
    for content in (data, damaged(sound, damage)):
        path.write_bytes(content)
        error = refusal(ConfigError, lambda: read_config(str(path)))
        assert error is None or "fuzz.toml" in f"{error} {error.where}"


def manifest() -> bytes:
    """A small manifest."""
    plan = Plan(
        release_id="20260101T000000Z-0000", plan_hash="0", lake="", as_of=NOW, created_at=NOW, model_id="m",
        space_id="1", reference_release=None, previous_release=None, shards=1, config={"a": {"b": 1}},
    )  # fmt: skip
    files = [FileEntry(path="members/part-00000.parquet", rows=1, bytes=2, sha256="0" * 64)]
    facts = {"release_id": plan.release_id, "space_id": "1", "model_id": "m", "sealed_at": NOW, "reasons": []}
    return Manifest(status="ready", plan=plan, files=files, stages=[], **facts).model_dump_json().encode()


@fuzz(300)
@given(damages(), st.binary(max_size=40))
def test_a_manifest_is_read_or_refused(damage: Any, other: bytes) -> None:
    for data in (damaged(manifest(), damage), other):
        error = refusal(CorruptError, lambda data=data: parse_manifest(data, "20260101T000000Z-0000"))
        assert error is None or "manifest" in str(error)


@fuzz(60)
@given(st.lists(st.tuples(st.text(max_size=9), st.integers(-1, 2**62), st.text(), st.none() | st.text(), st.text())))
def test_letters_of_any_text_are_kept_and_counted(rows: list[tuple[Any, ...]]) -> None:
    sound = [tuple(_utf8(cell) for cell in row) for row in rows]
    table = rejected_table([rejected_row(*row) for row in sound] + [rejected_summary("f", 3, "", "not listed", "x")])
    again = pq.read_table(pa.BufferReader(parquet_bytes(table)))
    assert [tuple(row.values()) for row in again.to_pylist()[: len(sound)]] == sound
    assert sum(group["rows"] for group in group_tables([again])) == len(sound) + 3


def _utf8(cell: Any) -> Any:
    """Arrow's strings are UTF-8: lone surrogates cannot come from a Parquet file."""
    return cell.encode("utf-8", "replace").decode() if isinstance(cell, str) else cell


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("index")
    vectors = np.random.default_rng(0).normal(size=(200, 6)).astype(np.float32)
    TitleIndex.build(np.arange(200), vectors).save(folder)
    return folder


@fuzz(60)
@given(damages(), st.sampled_from(["index.faiss", "ids.parquet", "index.json"]))
def test_a_damaged_index_is_refused_by_name(index: Path, damage: Any, name: str) -> None:
    before = damage_file(index / name, damage)
    same = (index / name).read_bytes() == before
    error = refusal((CorruptError, MismatchError), lambda: TitleIndex.load(index))
    (index / name).write_bytes(before)
    if name == "index.json":  # another figure of it, or another hash in it, is told of the file that it names
        return
    assert same or error is not None, "changed vectors or ids were served"
    assert error is None or name in f"{error} {error.where}"


@fuzz(60)
@given(damages())
def test_a_damaged_transform_is_refused_by_name(damage: Any) -> None:
    rng = np.random.default_rng(0)
    transform = fit(Gram.of(rng.normal(size=(60, 4))), Gram.of(rng.normal(size=(40, 4))))
    sound = transform.to_bytes()
    data = damaged(sound, damage)
    error = refusal(CorruptError, lambda: AlignmentTransform.from_bytes(data, where="transform.safetensors"))
    assert data == sound or error is not None, "changed maps were used"
    assert error is None or "transform.safetensors" in f"{error} {error.where}"

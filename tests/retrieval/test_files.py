import json

import faiss
import numpy as np
import pyarrow.parquet as pq
import pytest

from retrieval import IndexConfig, Origin, TitleIndex
from retrieval import index as index_module
from retrieval.backends import BACKENDS, TrainQueries
from retrieval.engine import Engine
from retrieval.index_metadata import IndexFolderMetadata
from stores.errors import CorruptError, MismatchError, NotFoundError


@pytest.fixture
def index(rng):
    vectors = rng.normal(size=(300, 6)).astype(np.float32)
    config = IndexConfig(metric="cosine")
    return TitleIndex.build([f"t{i}" for i in range(300)], vectors, vectors[:50] + 1, config, Origin(space_id="2"))


def edit(folder, **changes):
    card = json.loads((folder / "index.json").read_text())
    (folder / "index.json").write_text(json.dumps({**card, **changes}))


@pytest.mark.parametrize("name", list(BACKENDS))
def test_loaded_answers_as_saved(tmp_path, index, name, rng):
    backend = BACKENDS[name]
    vectors = np.ascontiguousarray(index.vectors)
    built = backend.build(vectors, TrainQueries(rng.normal(size=(99, 6)).astype(np.float32)))
    engine = Engine.of(backend, built, 64, index.ids.rank)
    saved = TitleIndex(
        index.ids, engine, index.card.model_copy(update={"backend": name, "search_effort": 64}), Origin(space_id="2")
    )
    saved.save(tmp_path / "new" / "folder")
    loaded = TitleIndex.load(tmp_path / "new" / "folder")
    queries = rng.normal(size=(300, 6))  # enough of them to be answered as a batch
    for old, new in zip(saved.search(queries, 20), loaded.search(queries, 20), strict=True):
        assert np.array_equal(old, new)
    assert (loaded.recall, loaded.metric, loaded.origin) == (saved.recall, "cosine", Origin(space_id="2"))
    loaded.save(tmp_path / "again")
    for file in ("index.faiss", "ids.parquet", "index.json"):
        assert (tmp_path / "again" / file).read_bytes() == (tmp_path / "new" / "folder" / file).read_bytes()


def test_the_files_are_plain(tmp_path, index, rng):
    index.save(tmp_path)
    plain = faiss.read_index(str(tmp_path / "index.faiss"))
    ids = pq.read_table(tmp_path / "ids.parquet")["title_id"].to_pylist()
    queries = rng.normal(size=(5, 6)).astype(np.float32)
    scores, rows = plain.search(queries / np.linalg.norm(queries, axis=1, keepdims=True), 4)
    found, ours = index.search(queries, 4)
    assert [[ids[row] for row in some] for some in rows] == found.tolist()
    assert np.allclose(scores, ours, atol=1e-5)
    faiss.write_index(plain, str(tmp_path / "written"))
    assert (tmp_path / "written").read_bytes() == (tmp_path / "index.faiss").read_bytes()


@pytest.mark.parametrize("file", ["index.faiss", "ids.parquet"])
def test_changed_bytes_are_refused_with_both_hashes(tmp_path, index, file):
    index.save(tmp_path)
    data = bytearray((tmp_path / file).read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / file).write_bytes(data)
    with pytest.raises(CorruptError, match=rf"{file} has hash [0-9a-f]{{64}}, index.json says [0-9a-f]{{64}}"):
        TitleIndex.load(tmp_path)
    (tmp_path / file).unlink()
    with pytest.raises(CorruptError, match=f"{file} is missing"):
        TitleIndex.load(tmp_path)


def test_another_space_or_artifact_is_refused_naming_both(tmp_path, index):
    index.save(tmp_path)
    with pytest.raises(MismatchError, match=r"space 2, asked for was space 3"):
        TitleIndex.load(tmp_path, origin=Origin(space_id="3"))
    with pytest.raises(MismatchError, match=r"artifact unknown, asked for was artifact abc"):
        TitleIndex.load(tmp_path, origin=Origin(artifact="abc"))
    assert len(TitleIndex.load(tmp_path, origin=Origin(space_id="2"))) == 300


def test_another_format_version_is_refused_naming_both(tmp_path, index):
    index.save(tmp_path)
    edit(tmp_path, format_version=99)
    with pytest.raises(MismatchError, match=r"version 99, this samespace reads 1"):
        TitleIndex.load(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dim": 7}, "dimensions 6, expected was 7"),
        ({"titles": 9}, "titles 300, expected was 9"),
        ({"backend": "hnsw"}, "type IndexFlatIP, expected was IndexHNSWFlat"),
        ({"backend": "future"}, "type future, this samespace knows flat"),
    ],
)
def test_a_card_that_does_not_fit_its_file_is_refused_naming_both(tmp_path, index, change, message):
    index.save(tmp_path)
    card = json.loads((tmp_path / "index.json").read_text())
    card["indexes"]["index"].update(change)
    (tmp_path / "index.json").write_text(json.dumps(card))
    with pytest.raises(MismatchError, match=message):
        TitleIndex.load(tmp_path)


@pytest.mark.parametrize("text", ["", "{", "{}", '{"format_version": 1}', '{"format_version": 1, "surprise": 1}'])
def test_a_broken_card_is_refused(tmp_path, index, text):
    index.save(tmp_path)
    (tmp_path / "index.json").write_text(text)
    with pytest.raises(CorruptError, match=r"index.json cannot be read"):
        TitleIndex.load(tmp_path)


def test_a_folder_without_an_index_is_not_found(tmp_path, index):
    with pytest.raises(NotFoundError, match="no index here"):
        TitleIndex.load(tmp_path)
    index.save(tmp_path)
    with pytest.raises(NotFoundError, match="no index other"):
        TitleIndex.load(tmp_path, "other")


def test_indexes_in_one_folder_share_their_ids(index):
    other = TitleIndex.build(["x"], np.ones((1, 6)))
    with pytest.raises(MismatchError, match="other ids"):
        index_module.serialize_indexes({"a": index, "b": other})


def test_every_flip_in_the_card_is_refused(tmp_path, index):
    """The card says how an index is searched: a changed figure of it would give other answers."""
    index.save(tmp_path)
    data = (tmp_path / "index.json").read_bytes()
    taken = []
    for at in range(len(data)):
        changed = data[:at] + bytes([data[at] ^ (1 << at % 8)]) + data[at + 1 :]
        try:
            IndexFolderMetadata.parse(changed, "index.json")
        except (CorruptError, MismatchError):
            continue
        taken.append((at, data[max(0, at - 9) : at + 9]))
    assert taken == []
    for name in ("search_effort", "max_exact_k", "min_filter_share", "queries_per_second"):
        card = json.loads(data)
        card["indexes"]["index"][name] = 7
        (tmp_path / "index.json").write_text(json.dumps(card, indent=1))
        with pytest.raises(CorruptError, match="digest"):
            TitleIndex.load(tmp_path)


def test_a_card_without_a_digest_is_from_before_there_was_one(tmp_path, index):
    index.save(tmp_path)
    card = json.loads((tmp_path / "index.json").read_bytes())
    del card["digest"]
    (tmp_path / "index.json").write_text(json.dumps(card))
    assert len(TitleIndex.load(tmp_path)) == 300

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load, save

from embeddings.foundation import FoundationEncoder
from embeddings.foundation.checkpoint import FORMAT_VERSION, _files
from stores.errors import CorruptError, MismatchError, NotFoundError
from stores.files.filesystem import Storage, sha256


@pytest.fixture
def folder(trained, tmp_path):
    return Path(shutil.copytree(trained[0].path, tmp_path / "copy"))


def settings(folder):
    return json.loads((folder / "config.json").read_text())


def rewrite(folder, files):
    """Replace files of a model, with their hashes."""
    hashes = json.loads((folder / "hashes.json").read_text())
    for name, data in files.items():
        (folder / name).write_bytes(data)
        hashes[name] = sha256(data)
    (folder / "hashes.json").write_text(json.dumps(hashes))


def test_a_moved_model_keeps_its_id(trained, folder):
    assert FoundationEncoder.load(folder).model_id == trained[0].model_id


@pytest.mark.parametrize(
    "name", ["weights.safetensors", "config.json", "vocabulary.json", "titles.parquet", "metrics.json"]
)
def test_a_changed_file_is_refused_by_name(folder, name):
    data = bytearray((folder / name).read_bytes())
    data[len(data) // 2] ^= 1
    (folder / name).write_bytes(bytes(data))
    with pytest.raises(CorruptError, match=name):
        FoundationEncoder.load(folder)


def test_a_missing_file_is_refused_by_name(folder):
    (folder / "titles.parquet").unlink()
    with pytest.raises(CorruptError, match=r"titles\.parquet"):
        FoundationEncoder.load(folder)


def test_a_folder_without_a_model_is_said(tmp_path):
    with pytest.raises(NotFoundError):
        FoundationEncoder.load(tmp_path)


def test_another_format_is_refused_with_both_versions(folder):
    rewrite(folder, {"config.json": json.dumps({**settings(folder), "format": 99}).encode()})
    with pytest.raises(MismatchError, match="99") as caught:
        FoundationEncoder.load(folder)
    assert f"format {FORMAT_VERSION}" in str(caught.value)


def test_a_model_of_the_format_before_the_heads_has_none_and_is_otherwise_the_same(trained, folder, histories):
    weights = load((folder / "weights.safetensors").read_bytes())
    weights = {name: tensor for name, tensor in weights.items() if not name.startswith("heads.")}
    old = settings(folder)
    for name in ("preferences", "hierarchical"):
        del old["config"]["network"][name]
    rewrite(folder, {"weights.safetensors": save(weights), "config.json": json.dumps({**old, "format": 1}).encode()})
    encoder = FoundationEncoder.load(folder)
    np.testing.assert_array_equal(encoder.encode_members(histories), trained[1].encode_members(histories))
    assert encoder.preferences(histories)["genres"].to_pylist() == [[]] * len(histories)


def test_metrics_are_stored(trained, folder):
    assert json.loads((folder / "metrics.json").read_text()) == trained[0].metrics


def test_no_flip_in_the_list_of_hashes_leaves_a_file_unchecked(folder):
    """In a hash, in a name, in what holds them together; flips that leave the same JSON change nothing."""
    path = folder / "hashes.json"
    data = path.read_bytes()
    for at in range(0, len(data), 3):
        changed = data[:at] + bytes([data[at] ^ (1 << at % 8)]) + data[at + 1 :]
        path.write_bytes(changed)
        with pytest.raises(CorruptError):
            _files(Storage(str(folder)))
    path.write_bytes(data)
    assert set(_files(Storage(str(folder)))) == set(json.loads(data))


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "5", "{}", '{"config.json": "x"}', '{"../../x": "y"}'])
def test_a_list_of_hashes_that_is_none_is_refused(folder, text):
    (folder / "hashes.json").write_text(text)
    with pytest.raises(CorruptError, match=r"hashes\.json"):
        FoundationEncoder.load(folder)


def test_a_file_that_is_gone_is_named(folder):
    (folder / "vocabulary.json").unlink()
    with pytest.raises(CorruptError, match=r"vocabulary\.json is missing"):
        FoundationEncoder.load(folder)

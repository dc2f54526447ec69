import json
import shutil
from pathlib import Path

import pytest

from embeddings.foundation import FoundationEncoder
from stores.errors import CorruptError, MismatchError, NotFoundError
from stores.storage import sha256


@pytest.fixture
def folder(trained, tmp_path):
    return Path(shutil.copytree(trained[0].path, tmp_path / "copy"))


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
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "format": 99}))
    hashes = json.loads((folder / "hashes.json").read_text())
    hashes["config.json"] = sha256((folder / "config.json").read_bytes())
    (folder / "hashes.json").write_text(json.dumps(hashes))
    with pytest.raises(MismatchError, match="99") as caught:
        FoundationEncoder.load(folder)
    assert "format 1" in str(caught.value)


def test_metrics_are_stored(trained, folder):
    assert json.loads((folder / "metrics.json").read_text()) == trained[0].metrics

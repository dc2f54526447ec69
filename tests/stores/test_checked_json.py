import json

import pytest

from stores.errors import CorruptError
from stores.files.checksummed_json import dump_checksummed, read_checksummed
from stores.files.filesystem import Storage

FACTS = {"release_id": "20260721T020000Z-3f9a", "space_id": "1", "rows": 12, "why": None, "nested": {"a": [1, "x"]}}


@pytest.fixture
def storage(tmp_path):
    return Storage(str(tmp_path))


def test_facts_come_back_and_other_readers_see_json(storage):
    storage.write("x.json", dump_checksummed(FACTS))
    assert read_checksummed(storage, "x.json") == FACTS
    assert FACTS.items() <= json.loads(storage.read("x.json")).items()


def test_a_file_from_before_there_were_digests_is_read(storage):
    storage.write("x.json", json.dumps(FACTS).encode())
    assert read_checksummed(storage, "x.json") == FACTS


def test_every_flipped_bit_is_noticed_and_the_file_named(storage):
    written = dump_checksummed(FACTS)
    for place in range(len(written) * 8):
        damaged = bytearray(written)
        damaged[place // 8] ^= 1 << place % 8
        storage.write("x.json", bytes(damaged))
        with pytest.raises(CorruptError, match=r"x\.json"):
            read_checksummed(storage, "x.json")

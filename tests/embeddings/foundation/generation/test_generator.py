"""A trained generator on disk and in use: existing titles, new to the member, the same after a restart."""

import numpy as np
import pyarrow as pa
import pytest

from embeddings.foundation import checkpoint
from embeddings.foundation.config import FoundationConfig, NetworkConfig, TasksConfig, TrainingConfig
from embeddings.foundation.semantic_id_generation import FOLDER, Generator
from embeddings.foundation.tasks.trainer import train_tasks
from embeddings.foundation.trainer import train
from stores.errors import CorruptError, NotFoundError
from stores.files.filesystem import Storage

CONFIG = FoundationConfig(
    network=NetworkConfig(dim=8, width=8, num_layers=1),
    training=TrainingConfig(min_steps=30, max_steps=30, num_validations=1),
)


@pytest.fixture(scope="module")
def generator(histories, catalogue, tmp_path_factory):
    known = catalogue.slice(0, 22)
    trained, _ = checkpoint.load_checkpoint(train(histories, known, CONFIG, 0, tmp_path_factory.mktemp("models")).path)
    tasks = TasksConfig(names=("next_id",), steps_per_task=30, rounds=1)
    return train_tasks(trained, histories, known, CONFIG, tasks, 0).generator(trained)


def test_candidates_exist_and_are_new_to_the_member(generator, histories, catalogue):
    found = generator.candidates(histories, catalogue, 5)
    ids = catalogue["title_id"].to_pylist()
    for row, (titles, met) in enumerate(zip(found.titles, histories["title_id"].to_pylist(), strict=True)):
        real = [ids[title] for title in titles if title >= 0]
        assert len(set(real)) == len(real)
        assert not set(real) & set(met)
        assert (np.diff(found.scores[row]) <= 0).all()


def test_a_title_launched_after_the_training_can_be_generated(generator, histories, catalogue):
    found = generator.candidates(histories.slice(0, 4), catalogue, len(catalogue), beam=len(catalogue))
    met = [set(titles) for titles in histories.slice(0, 4)["title_id"].to_pylist()]
    for titles, seen in zip(found.titles, met, strict=True):
        assert {22, 23} <= set(titles) | {one - 100 for one in seen}


def test_what_is_saved_generates_the_same(generator, histories, catalogue, tmp_path):
    models = Storage(str(tmp_path))
    folder = models.subfolder(checkpoint.save_checkpoint(generator.trained, models, {}))
    with pytest.raises(NotFoundError, match="no generator"):
        Generator.load(folder.uri)
    generator.save(folder)
    first, again = (one.candidates(histories, catalogue, 5) for one in (generator, Generator.load(folder.uri)))
    np.testing.assert_array_equal(first.titles, again.titles)
    np.testing.assert_array_equal(first.scores, again.scores)
    folder.write(f"{FOLDER}/ids.parquet", b"damaged")
    with pytest.raises(CorruptError, match=r"ids\.parquet"):
        Generator.load(folder.uri)


def test_a_session_goes_on_from_what_it_generated(generator, histories, catalogue):
    some = histories.slice(0, 6)
    found = generator.sessions(some, catalogue, 3, beam=len(catalogue))
    first = generator.candidates(some, catalogue, 1, beam=len(catalogue))
    np.testing.assert_array_equal(found.titles[:, :1], first.titles)
    met = some["title_id"].to_pylist()
    ids = pa.array(catalogue["title_id"]).to_pylist()
    for titles, seen in zip(found.titles, met, strict=True):
        assert len({ids[title] for title in titles} | set(seen)) == 3 + len(set(seen))

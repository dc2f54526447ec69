import numpy as np
import pytest

from embeddings.foundation.config import SemanticIdsConfig, num_codes
from embeddings.foundation.semantic_ids import SemanticIds, collisions, prefix_agreement
from stores.errors import CorruptError, MismatchError, UsageError
from stores.files.filesystem import Storage

GENRES, EACH, DIM = 8, 60, 16


@pytest.fixture(scope="module")
def vectors():
    """Titles around the direction of their genre."""
    random = np.random.default_rng(0)
    centres = random.normal(size=(GENRES, DIM))
    return (np.repeat(centres, EACH, axis=0) + random.normal(size=(GENRES * EACH, DIM))).astype(np.float32)


@pytest.fixture(scope="module")
def fitted(vectors):
    return SemanticIds.fit(vectors)


def test_ids_are_unique_and_few_titles_need_the_last_digit(vectors, fitted):
    ids = fitted.assign(vectors)
    assert ids.shape == (len(vectors), fitted.levels + 1)
    assert len(np.unique(ids, axis=0)) == len(vectors)
    assert ids[:, :-1].max() < fitted.codebooks.shape[1]
    assert collisions(ids) <= 0.15


def test_titles_of_a_genre_share_a_prefix_more_often_than_any_two(vectors, fitted):
    genres = [[str(row // EACH)] for row in range(len(vectors))]
    ids = fitted.assign(vectors)
    for digits in (1, 2):
        same, any_two = prefix_agreement(ids, genres, digits)
        assert same > any_two
    shuffled = np.random.default_rng(1).permutation(genres).tolist()
    assert prefix_agreement(ids, shuffled)[0] < prefix_agreement(ids, genres)[0]


def test_agreement_counts_pairs():
    ids = np.array([[0, 0], [0, 1], [1, 0]])
    assert prefix_agreement(ids, [["a"], ["a"], ["b"]]) == (1.0, 1 / 3)
    assert prefix_agreement(ids, [[], [], []]) == (0.0, 1 / 3)


def test_the_same_titles_give_the_same_codebooks(vectors, fitted):
    assert SemanticIds.fit(vectors.copy()).codebooks.equal(fitted.codebooks)


def test_the_codes_of_a_title_depend_on_nothing_but_its_direction(vectors, fitted):
    alone = np.concatenate([fitted.codes(vectors[row : row + 1]) for row in range(20)])
    np.testing.assert_array_equal(alone, fitted.codes(7 * vectors)[:20])


def test_new_titles_leave_the_ids_of_others_as_they_are(vectors, fitted):
    old = fitted.assign(vectors)
    new = fitted.assign(np.concatenate([vectors[:50], vectors[:50]]), taken=old)
    assert len(np.unique(np.concatenate([old, new]), axis=0)) == len(old) + len(new)
    np.testing.assert_array_equal(new[:50, :-1], old[:50, :-1])
    np.testing.assert_array_equal(new[50:, -1], new[:50, -1] + np.bincount(_groups(new[:50]))[_groups(new[:50])])


def _groups(ids):
    return np.unique(ids[:, :-1], axis=0, return_inverse=True)[1].reshape(-1)


def test_every_level_says_more_of_a_title(vectors, fitted):
    units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    ids, errors = fitted.assign(vectors), []
    for level in range(1, fitted.levels + 1):
        coarse = SemanticIds(fitted.codebooks[:level])
        errors.append(float(((units - coarse.vectors(ids)) ** 2).sum()))
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.25 * errors[0]


def test_saved_codebooks_give_the_same_ids(vectors, fitted, tmp_path):
    storage = Storage(str(tmp_path))
    fitted.save(storage)
    np.testing.assert_array_equal(SemanticIds.load(storage).assign(vectors), fitted.assign(vectors))


def test_what_cannot_be_is_refused(vectors, fitted, tmp_path):
    with pytest.raises(UsageError, match="1 titles"):
        SemanticIds.fit(vectors[:1])
    with pytest.raises(MismatchError, match="width 4"):
        fitted.assign(vectors[:, :4])
    storage = Storage(str(tmp_path))
    with pytest.raises(CorruptError, match="missing"):
        SemanticIds.load(storage)
    storage.write("semantic_ids.safetensors", b"nonsense")
    with pytest.raises(CorruptError, match="codebooks"):
        SemanticIds.load(storage)


def test_identical_titles_differ_in_the_last_digit_alone():
    ids = SemanticIds.fit(np.ones((5, 3), np.float32)).assign(np.ones((5, 3), np.float32))
    assert len(np.unique(ids[:, :-1], axis=0)) == 1
    assert ids[:, -1].tolist() == [0, 1, 2, 3, 4]
    assert collisions(ids) == 1.0


@pytest.mark.parametrize(("titles", "codes"), [(2, 2), (100, 32), (800, 256), (1_000_000, 256)])
def test_codes_follow_the_catalogue(titles, codes):
    assert num_codes(SemanticIdsConfig(), titles) == codes
    assert num_codes(SemanticIdsConfig(codes=5), titles) == 5

import numpy as np
import pytest
import torch

from embeddings.foundation.initialization import ppmi_title_vectors
from embeddings.foundation.sequences import TokenSequences
from embeddings.foundation.vocabulary import Vocabulary


@pytest.fixture(scope="module")
def tokens(histories, catalogue, make):
    return TokenSequences.of(histories, Vocabulary.build(histories, catalogue, make.config()))


def test_titles_met_near_one_another_are_near(tokens):
    vectors = ppmi_title_vectors(tokens, 24, 8)
    likeness = vectors @ vectors.T
    next_one = np.arange(12), (np.arange(12) + 1) % 12
    assert likeness[:12, :12][next_one].mean() > likeness[:12, 12:].mean() + 0.3


def test_rows_are_of_unit_length_and_finite_even_where_the_data_have_fewer_directions(tokens):
    vectors = ppmi_title_vectors(tokens, 24, 64)
    torch.testing.assert_close(vectors.norm(dim=1), torch.ones(24))
    assert (vectors[:, 24:] == 0).all()


def test_the_seed_decides(tokens):
    def drawn():
        torch.manual_seed(4)
        return ppmi_title_vectors(tokens, 24, 8)

    assert torch.equal(drawn(), drawn())


def test_members_are_not_mixed(make, catalogue):
    histories = make.histories([[100, 101]] * 5 + [[102, 103]] * 5)
    tokens = TokenSequences.of(histories, Vocabulary.build(histories, catalogue, make.config()))
    vectors = ppmi_title_vectors(tokens, 4, 4)
    assert abs(float(vectors[1] @ vectors[2])) < 1e-3

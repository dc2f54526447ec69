import pytest
import torch

from embeddings.foundation import train
from embeddings.foundation.checkpoint import Checkpoint
from embeddings.foundation.encode import member_vectors, title_features, title_vectors
from embeddings.foundation.initialization import inherit_weights
from embeddings.foundation.model import FoundationModel
from embeddings.foundation.sequences import TokenSequences
from embeddings.foundation.vocabulary import Vocabulary
from stores.errors import NotFoundError


def fresh(config, histories, catalogue, seed=5):
    """A model that knows these titles, with every parameter at random so that nothing agrees by chance."""
    vocabulary = Vocabulary.build(histories, catalogue, config)
    torch.manual_seed(seed)
    model = FoundationModel(config.network, vocabulary, 16, 0.05)
    known = catalogue.filter(torch.from_numpy(vocabulary.rows(catalogue["title_id"]) > 0).tolist())
    model.set_known_titles(title_features(known, vocabulary))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2) if parameter.dim() else None
    return Checkpoint(model.eval(), vocabulary, config)


def vectors_of(trained, histories, catalogue):
    members = member_vectors(trained.model, TokenSequences.of(histories, trained.vocabulary))
    return torch.from_numpy(members), torch.from_numpy(title_vectors(trained.model, trained.vocabulary, catalogue))


@pytest.fixture(scope="module")
def parent(histories, catalogue, make):
    return fresh(make.config(), histories, catalogue)


def test_the_same_vocabulary_gives_the_same_model(parent, histories, catalogue, make):
    child = fresh(make.config(), histories, catalogue, seed=6)
    inherit_weights(child.model, child.vocabulary, parent)
    for found, expected in zip(*(vectors_of(one, histories, catalogue) for one in (child, parent)), strict=True):
        torch.testing.assert_close(found, expected)


def grown(make):
    """One more genre and one more title, before all others in every order of names."""
    catalogue = make.catalogue([50, *range(100, 124), 130], ["aaa", *["left"] * 12, *["right"] * 12, "aaa"])
    return make.histories([*make.walks(), [50, 130, 100], [130, 50]]), catalogue


def test_known_titles_and_members_are_as_before_when_vocabulary_and_values_grow(parent, histories, catalogue, make):
    child = fresh(make.config(), *grown(make), seed=6)
    inherit_weights(child.model, child.vocabulary, parent)
    for found, expected in zip(*(vectors_of(one, histories, catalogue) for one in (child, parent)), strict=True):
        torch.testing.assert_close(found, expected)


def test_a_new_title_starts_near_the_titles_of_its_kind(parent, make):
    catalogue = make.catalogue([*range(100, 124), 130], [*["left"] * 12, *["right"] * 12, "right"])
    child = fresh(make.config(), make.histories([*make.walks(), [130, 112]]), catalogue, seed=6)
    inherit_weights(child.model, child.vocabulary, parent)
    ids = child.model.tower.ids.weight[1:-1].detach()
    left, right = ids[:12].mean(dim=0), ids[12:24].mean(dim=0)
    assert (ids[24] - right).norm() < (ids[24] - left).norm()


def test_width_may_grow(parent, make):
    config = make.config()
    wider = config.model_copy(update={"network": config.network.model_copy(update={"width": 24, "dim": 12})})
    child = fresh(wider, *grown(make), seed=6)
    inherit_weights(child.model, child.vocabulary, parent)
    assert torch.equal(child.model.transformer.project.weight[:8, :16], parent.model.transformer.project.weight)


def test_training_goes_on_from_a_model_with_fewer_steps(trained, histories, catalogue, make, tmp_path):
    config = make.config(warm_start_step_fraction=0.02)
    warm = train(histories, catalogue, config, 1, tmp_path, parent=trained[0].path)
    assert warm.metrics["parent"] == trained[0].model_id
    assert warm.metrics["steps"] == 2
    cold = train(histories, catalogue, make.config(max_steps=2), 1, tmp_path)
    assert warm.metrics["ndcg"] > cold.metrics["ndcg"]


def test_a_parent_that_is_not_there_is_said(histories, catalogue, make, tmp_path):
    with pytest.raises(NotFoundError):
        train(histories, catalogue, make.config(), 0, tmp_path, parent=tmp_path / "none")

import pytest
import torch
from torch.nn import functional

from embeddings.foundation.components import HistoryBody, TitleTower


def unit(vectors):
    return functional.normalize(torch.as_tensor(vectors), dim=-1)


def test_the_title_tower_alone_gives_the_title_vectors(trained, catalogue):
    model, encoder = trained
    tower = TitleTower.load(model.path).eval()
    found = tower(*tower.features(catalogue))
    torch.testing.assert_close(found, unit(encoder.encode_titles(catalogue)))


def test_the_body_and_the_projection_give_the_member_vectors(trained, histories):
    model, encoder = trained
    body = HistoryBody.load(model.path).eval()
    batch, last = body.windows(histories)
    states = body(batch, last)[torch.arange(len(last)), last]
    torch.testing.assert_close(unit(body.transformer.project(states)), unit(encoder.encode_members(histories)))


@pytest.mark.parametrize("part", [TitleTower, HistoryBody])
def test_an_application_can_train_what_it_imports(part, trained, catalogue, histories):
    graph = part.load(trained[0].path)
    found = graph(*(graph.features(catalogue) if part is TitleTower else graph.windows(histories)))
    head = torch.nn.Linear(found.shape[-1], 1)
    head(found).sum().backward()
    assert any(weight.grad is not None and weight.grad.abs().sum() > 0 for weight in graph.parameters())


def test_each_has_only_the_weights_that_it_needs(trained):
    tower, body = (part.load(trained[0].path).state_dict() for part in (TitleTower, HistoryBody))
    assert not any("transformer" in name for name in tower)
    assert not any(name.startswith("tower") for name in body)

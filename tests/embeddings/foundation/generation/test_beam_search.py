"""Constrained beam search: only titles that exist, exact where the beam holds the catalogue, chances that add up."""

import numpy as np
import pytest
import torch

from embeddings.foundation.config import SemanticIdsConfig
from embeddings.foundation.semantic_id_generation import IdHead, Trie, beam_search
from embeddings.foundation.semantic_ids import SemanticIds
from stores.errors import UsageError

TITLES, DIM, MEMBERS = 200, 16, 4


@pytest.fixture(scope="module")
def titles():
    """Unit vectors, some of them twice, so that leaves hold several titles."""
    points = torch.randn(TITLES - 40, DIM, generator=torch.Generator().manual_seed(0))
    return torch.nn.functional.normalize(torch.cat([points, points[:40]]), dim=1)


@pytest.fixture(scope="module")
def ids(titles):
    books = SemanticIds.fit(titles.numpy(), SemanticIdsConfig(levels=3, codes=8, rounds=5))
    return books, books.assign(titles.numpy())


@pytest.fixture(scope="module")
def head(ids):
    """A head whose every weight matters."""
    torch.manual_seed(1)
    head = IdHead(ids[0])
    for weight in head.parameters():
        torch.nn.init.normal_(weight, std=0.5)
    return head


@pytest.fixture(scope="module")
def members():
    return 10 * torch.nn.functional.normalize(
        torch.randn(MEMBERS, DIM, generator=torch.Generator().manual_seed(2)), dim=1
    )


def chance(head, ids, member, title, titles):
    """log P(title) of one member by the definition: each digit among those that exist after the same prefix."""
    total, state = 0.0, member
    for level in range(ids.shape[1] - 1):
        alike = (ids[:, :level] == ids[title, :level]).all(axis=1)
        moved = state + head.downs[level](torch.nn.functional.silu(head.ups[level](head.norms[level](state))))
        logits = {}
        for digit in np.unique(ids[alike, level]):
            below = titles[alike & (ids[:, level] == digit)]
            learned = moved @ head.codes[level, digit] + head.bias[level, digit]
            logits[digit] = moved @ below.mean(dim=0) + np.log(len(below)) + learned
        own = int(ids[title, level])
        total += float(logits[own] - torch.logsumexp(torch.stack(list(logits.values())), 0))
        state = head.advance(state, torch.tensor(own), level)
    leaf = np.flatnonzero((ids[:, :-1] == ids[title, :-1]).all(axis=1))
    scores = titles @ member
    return total + float(scores[title] - torch.logsumexp(scores[leaf], 0))


@torch.no_grad()
def brute(head, ids, members, titles):
    return np.array([[chance(head, ids, member, title, titles) for title in range(TITLES)] for member in members])


def test_a_beam_as_wide_as_the_catalogue_finds_what_scoring_every_title_finds(head, ids, members, titles):
    expected = brute(head, ids[1], members, titles)
    np.testing.assert_allclose(np.exp(expected).sum(axis=1), 1, rtol=1e-4)
    nothing = torch.zeros(MEMBERS, TITLES, dtype=torch.bool)
    found, scores = beam_search(head, Trie.of(ids[1], titles.numpy()), members, titles, TITLES, TITLES, nothing)
    assert [sorted(row) for row in found.tolist()] == [list(range(TITLES))] * MEMBERS
    np.testing.assert_allclose(scores.numpy(), np.take_along_axis(expected, found.numpy(), 1), atol=1e-3)
    assert (scores.diff(dim=1) <= 0).all()


@pytest.mark.parametrize("beam", [1, 5, 40])
def test_titles_exist_are_new_to_the_member_and_met_once(head, ids, members, titles, beam):
    met = torch.rand(MEMBERS, TITLES, generator=torch.Generator().manual_seed(3)) < 0.5
    found, scores = beam_search(head, Trie.of(ids[1], titles.numpy()), members, titles, 20, beam, met)
    assert found.shape == scores.shape == (MEMBERS, 20)
    for row, (chosen, likely) in enumerate(zip(found.tolist(), scores.tolist(), strict=True)):
        real = [title for title in chosen if title >= 0]
        assert len(set(real)) == len(real)
        assert not met[row, real].any()
        assert [title < 0 for title in chosen] == [score == float("-inf") for score in likely]


def test_a_wider_beam_never_finds_less_likely_titles(head, ids, members, titles):
    nothing, trie = torch.zeros(MEMBERS, TITLES, dtype=torch.bool), Trie.of(ids[1], titles.numpy())
    best = [beam_search(head, trie, members, titles, 10, beam, nothing)[1][:, 0] for beam in (1, 10, TITLES)]
    assert (best[0] <= best[1] + 1e-5).all()
    assert (best[1] <= best[2] + 1e-5).all()


def test_before_training_the_chances_are_about_those_of_the_towers_softmax(ids, members, titles):
    nothing = torch.zeros(MEMBERS, TITLES, dtype=torch.bool)
    expected = (0.2 * members @ titles.T).log_softmax(dim=1)
    trie = Trie.of(ids[1], titles.numpy())
    found, scores = beam_search(IdHead(ids[0]), trie, 0.2 * members, titles, TITLES, TITLES, nothing)
    torch.testing.assert_close(scores, expected.gather(1, found), atol=0.5, rtol=0)


def test_the_loss_is_minus_the_log_chance_of_the_digits_that_the_search_finds(head, ids, members, titles):
    """Of all titles, once what tells those of the same digits apart is taken off."""
    trie, rows = Trie.of(ids[1], titles.numpy()), torch.arange(TITLES)
    expected = brute(head, ids[1], members, titles)
    leaf = (ids[1][:, None, :-1] == ids[1][None, :, :-1]).all(axis=2)
    scores = (members @ titles.T).numpy()
    within = scores - np.stack([np.logaddexp.reduce(np.where(leaf, row, -np.inf), axis=1) for row in scores])
    for member in range(MEMBERS):
        lost = head.loss(members[member].expand(TITLES, -1), trie, rows)
        np.testing.assert_allclose(-lost.detach().numpy(), (expected - within)[member], atol=1e-3)


def test_a_new_title_is_reachable_as_soon_as_it_has_an_id(head, ids, members, titles):
    books, taken = ids
    new = torch.nn.functional.normalize(titles[3:4] + 0.01, dim=1)
    grown = np.concatenate([taken, books.assign(new.numpy(), taken)])
    nothing = torch.zeros(MEMBERS, TITLES + 1, dtype=torch.bool)
    found, _ = beam_search(
        head,
        Trie.of(grown, torch.cat([titles, new]).numpy()),
        members,
        torch.cat([titles, new]),
        TITLES + 1,
        TITLES + 1,
        nothing,
    )
    assert all(TITLES in row for row in found.tolist())


def test_no_ids_no_trie():
    with pytest.raises(UsageError, match="no ids"):
        Trie.of(np.zeros((0, 4), np.int32), np.zeros((0, 8), np.float32))

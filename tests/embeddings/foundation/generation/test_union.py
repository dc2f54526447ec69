"""Two lists of candidates become one: a mixture of chances, every title once, nothing that neither lists."""

import pytest
import torch

from benchmarks.candidate_fusion import fuse, of_scores

MEMBERS, TITLES = 6, 40


@pytest.fixture(scope="module")
def scores():
    random = torch.Generator().manual_seed(0)
    return [3 * torch.randn(MEMBERS, TITLES, generator=random) for _ in range(2)]


@pytest.mark.parametrize("share", [0.1, 0.25, 0.9])
def test_whole_lists_give_the_mixture_of_both_over_all_titles(scores, share):
    one, other = (each.softmax(dim=1) for each in scores)
    expected = ((1 - share) * one + share * other).log().topk(10, dim=1)
    found, chances = fuse(*(of_scores(each, TITLES) for each in scores), 10, share)
    assert torch.equal(found, expected.indices)
    torch.testing.assert_close(chances, expected.values)


def test_every_title_is_there_once_and_in_one_of_the_lists(scores):
    lists = [of_scores(each, 8) for each in scores]
    found, chances = fuse(*lists, 10)
    assert (chances.diff(dim=1) <= 0).all()
    for row, one, other in zip(found.tolist(), lists[0][0].tolist(), lists[1][0].tolist(), strict=True):
        real = [title for title in row if title >= 0]
        assert len(set(real)) == len(real) == min(10, len({*one, *other}))
        assert set(real) <= {*one, *other}


def test_a_source_without_candidates_leaves_the_other_as_it_is(scores):
    one = of_scores(scores[0], 10)
    nothing = torch.full((MEMBERS, 10), -1), torch.full((MEMBERS, 10), float("-inf"))
    assert torch.equal(fuse(one, nothing, 10)[0], one[0])
    assert torch.equal(fuse(nothing, one, 12)[0][:, :10], one[0])
    assert (fuse(nothing, one, 12)[0][:, 10:] == -1).all()


def test_what_is_left_out_is_no_candidate(scores):
    left_out = scores[0].masked_fill(torch.arange(TITLES) >= 3, float("-inf"))
    found, chances = of_scores(left_out, 5)
    assert ((found >= 0).sum(dim=1) == 3).all()
    assert (found[:, :3] < 3).all()
    torch.testing.assert_close(chances[:, :3].exp().sum(dim=1), torch.ones(MEMBERS))


def test_a_member_with_nothing_left_to_choose_has_no_candidates(scores):
    found, chances = of_scores(torch.full_like(scores[0], float("-inf")), 5)
    assert (found == -1).all()
    assert (chances == float("-inf")).all()

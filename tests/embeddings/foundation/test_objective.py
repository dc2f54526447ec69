import pytest
import torch
from torch.nn import functional

from embeddings.foundation import loss as loss_module
from embeddings.foundation.loss import sampled_softmax_loss

TITLES, DRAWN, TRIALS, POSITIONS = 200, 64, 3000, 40


@pytest.fixture(autouse=True)
def exact(monkeypatch):
    """Float32, whatever the processor."""
    monkeypatch.setattr(loss_module, "MATMUL_DTYPE", torch.float32)


@pytest.fixture(scope="module")
def scores():
    return torch.randn(TITLES, generator=torch.Generator().manual_seed(0)) * 1.5


@pytest.fixture(scope="module")
def lesson():
    """Members, titles and targets."""
    random = torch.Generator().manual_seed(3)
    members, titles = torch.randn(POSITIONS, 8, generator=random), torch.randn(TITLES, 8, generator=random)
    return members, titles, torch.randint(0, TITLES, (POSITIONS,), generator=random)


def gradients(loss, *leaves):
    fresh = [leaf.clone().requires_grad_() for leaf in leaves]
    value = loss(*fresh)
    value.backward()
    return value.detach(), [leaf.grad for leaf in fresh]


def relative_error(found, exact):
    return float((found - exact).norm() / exact.norm())


def expected_gradient(scores, target, correction):
    """The mean over many draws; member 1 and titles of width 1 make the scores the titles themselves."""
    random, total = torch.Generator().manual_seed(1), torch.zeros_like(scores)
    leaf, one, weight = scores.clone().requires_grad_(), torch.ones(1, 1), torch.ones(1)
    for _ in range(TRIALS):
        drawn = torch.randperm(TITLES, generator=random)[:DRAWN]
        own = (drawn == target).nonzero().flatten()
        left_out = own[None, :1] if len(own) else torch.tensor([[DRAWN]])
        positive = leaf[target][None, None] + correction
        loss = sampled_softmax_loss(one, leaf[drawn][:, None], positive, left_out, weight, TITLES / DRAWN)
        total += torch.autograd.grad(loss, leaf)[0]
    return total / TRIALS


def test_the_expected_gradient_is_that_of_full_softmax_and_correcting_the_positive_is_worse(scores):
    target = int(scores.argsort()[TITLES // 2])
    _, (exact,) = gradients(lambda s: functional.cross_entropy(s[None, :], torch.tensor([target])), scores)
    ours = expected_gradient(scores, target, 0.0)
    naive = expected_gradient(scores, target, float(torch.log(torch.tensor(TITLES / DRAWN))))
    assert relative_error(ours, exact) <= 0.1
    assert relative_error(naive, exact) > relative_error(ours, exact)


def test_all_titles_are_full_softmax(lesson):
    members, titles, targets = lesson
    weights = torch.rand(POSITIONS, generator=torch.Generator().manual_seed(4))

    def ours(members, titles):
        positive = (members * titles[targets]).sum(dim=1, keepdim=True)
        return sampled_softmax_loss(members, titles, positive, targets[:, None], weights, 1.0)

    def full(members, titles):
        return functional.cross_entropy(members @ titles.T, targets, reduction="none") @ weights

    found, expected = gradients(ours, members, titles), gradients(full, members, titles)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("width", [8, 7])
def test_nested_is_the_sum_of_the_losses_of_half_and_whole(lesson, width):
    members, titles, targets = lesson
    members, titles, half, weights = members[:, :width], titles[:, :width], width // 2, torch.full((POSITIONS,), 0.3)
    left_out, each = torch.stack([targets, (targets + 1) % TITLES], dim=1), 2.5

    def positive(members, titles):
        return (members * titles[targets]).sum(dim=1, keepdim=True)

    def one(members, titles):
        return sampled_softmax_loss(members, titles, positive(members, titles), left_out, weights, each)

    def both(members, titles):
        own = torch.cat([positive(members[:, :half], titles[:, :half]), positive(members, titles)], dim=1)
        return sampled_softmax_loss(members, titles, own, left_out, weights, each)

    expected = gradients(lambda m, t: one(m, t) + one(m[:, :half], t[:, :half]), members, titles)
    torch.testing.assert_close(gradients(both, members, titles), expected)


def test_what_is_left_out_has_no_part(lesson):
    members, titles, targets = lesson
    barred = torch.stack([targets, (targets + 1) % TITLES, torch.full_like(targets, TITLES)], dim=1)

    def ours(members, titles):
        positive = (members * titles[targets]).sum(dim=1, keepdim=True)
        return sampled_softmax_loss(members, titles, positive, barred, torch.ones(POSITIONS), 1.0)

    def plain(members, titles):
        scores = members @ titles.T
        hidden = functional.one_hot(barred[:, 1], TITLES).bool()
        return functional.cross_entropy(scores.masked_fill(hidden, float("-inf")), targets, reduction="sum")

    torch.testing.assert_close(gradients(ours, members, titles), gradients(plain, members, titles))


def test_short_products_change_the_gradient_by_less_than_a_hundredth_and_the_loss_by_a_thousandth(lesson, monkeypatch):
    members, titles, targets = lesson

    def ours(members, titles):
        positive = (members * titles[targets]).sum(dim=1, keepdim=True)
        return sampled_softmax_loss(members, titles, positive, targets[:, None], torch.ones(POSITIONS), 1.0)

    loss, exact = gradients(ours, members, titles)
    monkeypatch.setattr(loss_module, "MATMUL_DTYPE", torch.bfloat16)
    near, short = gradients(ours, members, titles)
    assert relative_error(near, loss) < 1e-3
    assert all(relative_error(*pair) < 0.01 for pair in zip(short, exact, strict=True))


def test_scores_far_apart_stay_finite():
    members, titles = torch.tensor([[200.0], [-200.0]]), torch.tensor([[1.0], [-1.0]])
    positive = (members * titles[[1]]).sum(dim=1, keepdim=True)
    loss = sampled_softmax_loss(members, titles, positive, torch.ones(2, 1, dtype=torch.long), torch.ones(2), 1.0)
    torch.testing.assert_close(loss, torch.tensor(400.0))

import numpy as np
import pytest
import torch

from embeddings.foundation.objective import full_softmax, sampled_softmax, sampled_uniform

TITLES, DRAWN, TRIALS = 200, 64, 3000


@pytest.fixture(scope="module")
def scores():
    return torch.randn(TITLES, generator=torch.Generator().manual_seed(0)) * 1.5


def gradient(loss, scores):
    leaf = scores.clone().requires_grad_()
    loss(leaf).backward()
    return leaf.grad


def relative_error(found, exact):
    return float((found - exact).norm() / exact.norm())


def expected_gradient(scores, target, loss):
    """The mean over many draws, all in one batch: position i uses its own negatives."""
    draws = torch.randint(0, TITLES, (TRIALS, DRAWN), generator=torch.Generator().manual_seed(1))

    def mean(leaf):
        positive = leaf[target].expand(TRIALS)
        return loss(positive, leaf[draws], draws == target).mean()

    return gradient(mean, scores)


def test_the_expected_gradient_is_that_of_full_softmax_and_correcting_the_positive_is_worse(scores):
    target = int(scores.argsort()[TITLES // 2])
    exact = gradient(lambda leaf: full_softmax(leaf[None, :], torch.tensor([target])).mean(), scores)
    ours = expected_gradient(scores, target, lambda p, n, same: sampled_uniform(p, n, same, TITLES))
    log_q = float(np.log(DRAWN / TITLES))
    naive = expected_gradient(scores, target, lambda p, n, same: sampled_uniform(p - log_q, n, same, TITLES))
    assert relative_error(ours, exact) <= 0.1
    assert relative_error(naive, exact) > relative_error(ours, exact)


def test_all_other_titles_as_negatives_are_full_softmax(scores):
    target, others = 3, torch.tensor([i for i in range(TITLES) if i != 3])
    same = torch.zeros(1, TITLES - 1, dtype=torch.bool)
    sampled = sampled_uniform(scores[[target]], scores[others][None, :], same, TITLES)
    torch.testing.assert_close(sampled, full_softmax(scores[None, :], torch.tensor([target])))


def test_a_draw_of_the_target_is_left_out(scores):
    draws = torch.tensor([5, 9, 3, 7])
    without = sampled_uniform(
        scores[[3]], scores[torch.tensor([5, 9, 7])][None, :], torch.zeros(1, 3, dtype=torch.bool), TITLES
    )
    torch.testing.assert_close(
        sampled_uniform(scores[[3]], scores[draws][None, :], (draws == 3)[None, :], TITLES), without
    )


def test_a_uniform_q_is_the_general_form(scores):
    draws, log_q = torch.arange(10), torch.full((10,), -float(np.log(TITLES)))
    same = (draws == 3)[None, :]
    general = sampled_softmax(scores[[3]], scores[draws][None, :], same, log_q, log_q[:1])
    torch.testing.assert_close(general, sampled_uniform(scores[[3]], scores[draws][None, :], same, TITLES))

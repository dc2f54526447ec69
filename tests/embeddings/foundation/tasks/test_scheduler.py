"""Turns follow convergence, and merging follows the questions."""

import numpy as np
import torch

from embeddings.foundation.config import TasksConfig
from embeddings.foundation.tasks.trainer import TaskSampler, mean_weights, model_soup

CONFIG = TasksConfig(warmup_rounds=1, min_share=0.3)


def scheduler(*losses, config=CONFIG):
    found = TaskSampler(config, len(losses[0]))
    for each in losses:
        found.record(list(each))
    return found


def test_turns_are_even_while_warming_up_and_where_not_scheduled():
    assert scheduler([2, 2]).shares().tolist() == [0.5, 0.5]
    warm = CONFIG.model_copy(update={"warmup_rounds": 2})
    assert scheduler([2, 2], [1, 2], config=warm).shares().tolist() == [0.5, 0.5]
    assert scheduler([2, 2], [1, 2]).shares().tolist() == [0.85, 0.15]
    plain = CONFIG.model_copy(update={"adaptive_sampling": False})
    assert scheduler([4, 4], [2, 4], [1, 4], config=plain).shares().tolist() == [0.5, 0.5]


def test_a_task_that_still_gains_gets_more_and_a_converged_one_its_least_share():
    shares = scheduler([4.0, 4.0], [3.0, 1.0], [2.0, 1.0]).shares()
    np.testing.assert_allclose(shares, [0.85, 0.15])


def test_shares_do_not_depend_on_the_scale_of_a_loss():
    one = scheduler([4.0, 4.0], [3.0, 2.0], [2.0, 1.5]).shares()
    other = scheduler([40.0, 4.0], [30.0, 2.0], [20.0, 1.5]).shares()
    np.testing.assert_allclose(one, other)


def test_where_nobody_gains_turns_are_even_again():
    np.testing.assert_allclose(scheduler([1, 1, 1], [2, 2, 2], [3, 3, 3]).shares(), [1 / 3] * 3)


def test_turns_are_dealt_as_the_shares_say():
    found = scheduler([4.0, 4.0], [3.0, 1.0], [2.0, 1.0]).sample_tasks(40)
    assert np.bincount(found).tolist() == [34, 6]
    assert len(scheduler([1, 1, 1]).sample_tasks(10)) == 10


def test_merging_finds_the_middle_between_two_rounds_that_miss_it():
    rounds = [{"w": torch.tensor(at)} for at in (-1.0, 1.0, 5.0)]

    def judge(state):
        return float(state["w"] ** 2) + 0.1

    kept, shares, lost = model_soup(rounds, [judge(state) for state in rounds], judge)
    assert shares == [0.5, 0.5, 0.0]
    assert kept["w"] == 0
    assert lost == judge(kept)


def test_one_good_round_is_kept_as_it_is():
    rounds = [{"w": torch.tensor(at)} for at in (0.0, 3.0, 4.0)]
    kept, shares, lost = model_soup(rounds, [1.0, 10.0, 17.0], lambda state: 1 + float(state["w"] ** 2))
    assert shares == [1, 0, 0]
    assert torch.equal(kept["w"], mean_weights(rounds[:1])["w"])
    assert lost == 1

import itertools
import socket

import pytest
import torch
from torch import distributed, multiprocessing

from embeddings.foundation.config import TrainingConfig
from embeddings.foundation.process_group import SINGLE_PROCESS, ProcessGroup
from embeddings.foundation.trainer import train_local
from stores.errors import MismatchError
from stores.files.filesystem import Storage


def test_alone_nothing_changes():
    model, config = torch.nn.Linear(2, 2), TrainingConfig()
    model(torch.ones(1, 2)).sum().backward()
    before = [weight.grad.clone() for weight in model.parameters()]
    state = torch.get_rng_state()
    SINGLE_PROCESS.seed_step(3)
    SINGLE_PROCESS.all_reduce_gradients(model)
    SINGLE_PROCESS.check_equal_weights(model)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(a, weight.grad) for a, weight in zip(before, model.parameters(), strict=True))
    assert SINGLE_PROCESS.local_config(config) is config
    assert list(SINGLE_PROCESS.shard(iter("abc"))) == list("abc")
    assert SINGLE_PROCESS.broadcast("found") == "found"


def test_a_team_shares_out_every_batch():
    teams = [ProcessGroup(rank, 3) for rank in range(3)]
    dealt = [list(team.shard(iter(range(9)))) for team in teams]
    assert sorted(itertools.chain(*dealt)) == list(range(9))
    assert {team.local_config(TrainingConfig(batch_tokens=900)).batch_tokens for team in teams} == {300}
    assert [team.is_main for team in teams] == [True, False, False]


def test_each_process_and_step_has_random_numbers_of_its_own():
    def drawn(rank, step, seed=0):
        with torch.random.fork_rng(devices=[]):
            ProcessGroup(rank, 2, seed).seed_step(step)
            return float(torch.rand(1))

    assert drawn(0, 5) == drawn(0, 5)
    assert len({drawn(0, 5), drawn(1, 5), drawn(0, 6), drawn(0, 5, seed=1)}) == 4


def as_one_of_two(work, rank, port, told):
    """In a process of its own: join the group, work, tell."""
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    told[rank] = work(ProcessGroup(rank, 2))
    distributed.destroy_process_group()


def together(work):
    """What two processes say who do the same work as a team."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = multiprocessing.get_context("fork")
    with context.Manager() as manager:
        told = manager.dict()
        members = [context.Process(target=as_one_of_two, args=(work, rank, port, told)) for rank in range(2)]
        for member in members:
            member.start()
        for member in members:
            member.join(120)
        return [told[0], told[1]]


def averaged(team):
    """Two models that see different data, one of which leaves a weight out."""
    model = torch.nn.Linear(2, 1)
    (model.weight * (team.rank + 1)).sum().backward()
    if team.rank == 1:
        model.bias.sum().backward()
    team.all_reduce_gradients(model)
    return model.weight.grad.tolist(), model.bias.grad.tolist(), team.broadcast(team.rank)


def checked(team):
    """Whether the same and then different weights are noticed."""
    model = torch.nn.Linear(2, 1)
    torch.nn.init.ones_(model.weight)
    torch.nn.init.ones_(model.bias)
    team.check_equal_weights(model)
    torch.nn.init.constant_(model.bias, team.rank)
    with pytest.raises(MismatchError, match="different weights"):
        team.check_equal_weights(model)
    return True


def test_gradients_are_averaged_and_all_go_on_from_what_the_first_found():
    assert together(averaged) == [([[1.5, 1.5]], [0.5], 0)] * 2


def test_different_weights_are_noticed():
    assert together(checked) == [True, True]


def test_two_processes_end_at_one_model_and_a_seed_repeats_it(histories, catalogue, make, tmp_path):
    config = make.config(max_steps=12, num_validations=2).model_copy(update={"workers": 2})

    def trained(team):
        models = [Storage(str(tmp_path / name)) for name in ("one", "two")]
        ids = [train_local(histories, catalogue, config, 0, place, team=team).model_id for place in models]
        return ids, train_local(histories, catalogue, config, 1, models[0], team=team).model_id

    first, second = together(trained)
    assert first == second
    ids, other = first
    assert ids[0] == ids[1] != other
    assert not list((tmp_path / "one").glob("unfinished-*"))

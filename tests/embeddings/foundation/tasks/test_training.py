"""Several tasks on one body: what each learns, what stays as it was, and that a run can be repeated."""

import copy
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import torch

from embeddings.foundation.config import TasksConfig
from embeddings.foundation.encode import member_vectors
from embeddings.foundation.evaluation_queries import last_new_title
from embeddings.foundation.sequences import TokenSequences
from embeddings.foundation.tasks.experts import Mixture, add_experts, merge_experts
from embeddings.foundation.tasks.task import EvalQueries, target_states
from embeddings.foundation.tasks.trainer import TaskTrainer, create_task, train_tasks
from embeddings.foundation.training_data import TrainingData, hold_out_tokens
from stores.errors import ContractError

ALL = ("next_title", "trailers", "plays", "thumbs", "next_genre", "completion", "co_members", "next_id")
SHORT = TasksConfig(names=ALL, rank=2, steps_per_task=4, rounds=2, warmup_rounds=0, merge=True)


@pytest.fixture(scope="module")
def found(trained, service, config):
    return train_tasks(trained, *service, config, SHORT, seed=0)


@pytest.fixture(scope="module")
def questions(trained, service):
    histories, _ = service
    asked = last_new_title(histories, trained.vocabulary.title_ids)
    return EvalQueries.of(histories, trained.vocabulary, asked, trained.model.length)


def test_every_task_has_a_model_a_score_and_a_loss_that_falls(found, questions):
    scores = found.scores(questions)
    assert set(scores) == set(found.models) == set(ALL)
    assert all(0 <= score <= 1 for score in scores.values())
    assert found.report["steps"] == 32
    assert np.allclose(np.sum(found.report["shares"], axis=1), 1)
    first, last = np.array(found.report["losses"])[[0, -1]]
    assert np.log(last).mean() < np.log(first).mean()


def test_the_same_seed_gives_the_same_weights_and_the_parent_stays(found, trained, service, config):
    before = copy.deepcopy(trained.model.state_dict())
    again = train_tasks(trained, *service, config, SHORT, seed=0)
    for name, model in found.models.items():
        for key, weight in model.state_dict().items():
            assert torch.equal(weight, again.models[name].state_dict()[key])
    assert all(torch.equal(before[key], weight) for key, weight in trained.model.state_dict().items())


def test_merging_is_not_worse_than_the_best_round_for_any_task(found):
    for at, name in enumerate(ALL):
        kept = found.report["kept"][name]
        assert kept["loss"] <= min(losses[at] for losses in found.report["losses"])
        assert len(kept["rounds"]) == 3
        assert sum(kept["rounds"]) == pytest.approx(1)


def test_every_task_moves_the_experts_by_steps_of_one_size(trained, service, config):
    course = TaskTrainer(trained, *service, config, SHORT, seed=0)
    norms = []
    for at, batches in enumerate(course.batches):
        course.learner.task_step(at, next(batches))
        moved = [weight.grad for weight in course.learner.model.parameters() if weight.grad is not None]
        norms.append(float(torch.cat([gradient.flatten() for gradient in moved]).norm()))
    np.testing.assert_allclose(norms, norms[0], rtol=1e-3)


def test_a_turn_leaves_the_experts_of_other_tasks_alone(trained, service, config):
    course = TaskTrainer(trained, *service, config, SHORT, seed=0)
    course.learner.task_step(0, next(course.batches[0]))
    own = [layer for layer in course.learner.model.modules() if isinstance(layer, Mixture)]
    heard = course.learner.router.allowed[0].tolist()
    for mixture in own:
        assert [expert.down.grad is not None for expert in mixture.experts] == heard


def test_nothing_is_measured_where_nothing_asks_for_it(trained, service, config):
    plain = SHORT.model_copy(update={"names": ("plays",), "rounds": 1, "adaptive_sampling": False, "merge": False})
    report = train_tasks(trained, *service, config, plain, seed=0).report
    assert report["losses"] == []
    assert report["kept"] == {"plays": {}}


def test_a_tasks_model_is_an_ordinary_one(found, trained, questions):
    model = found.models["next_title"]
    assert set(model.state_dict()) == set(trained.model.state_dict())
    assert member_vectors(model, questions.tokens).shape == (len(questions.positions), 16)


@pytest.fixture
def experts(trained):
    """A fresh copy with experts that change it, for two tasks of two kinds."""
    model = copy.deepcopy(trained.model)
    made = [create_task(name, model) for name in ("next_title", "next_genre", "next_id")]
    router = add_experts(model, made, mixture=True, rank=2)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.endswith(".up") or name.startswith("router.gates"):
                weight.normal_(std=0.1)
    return model, router


def test_experts_that_have_learned_nothing_change_nothing(trained, service):
    model = copy.deepcopy(trained.model)
    made = [create_task(name, model) for name in ("next_title", "next_id")]
    router = add_experts(model, made, mixture=True, rank=2)
    tokens = TokenSequences.of(service[0], trained.vocabulary)
    expected = member_vectors(trained.model, tokens)
    np.testing.assert_allclose(
        member_vectors(merge_experts(model, router, 1, trained.model), tokens), expected, atol=1e-6
    )


def test_alone_is_what_the_task_sees_in_the_mixture(experts, trained, questions):
    model, router = experts
    plain = [questions.states(merge_experts(model, router, task, trained.model)) for task in range(3)]
    for task in range(3):
        with torch.no_grad(), router.on(task):
            torch.testing.assert_close(questions.states(model), plain[task], atol=1e-5, rtol=1e-5)
    assert not torch.allclose(plain[0], plain[2], atol=1e-3)


def test_a_task_listens_to_the_shared_expert_to_that_of_its_kind_and_to_its_own(experts):
    _, router = experts
    shared, generate, represent = [True] * 3, [False, False, True], [True, True, False]
    expected = torch.tensor([shared, generate, represent]).T
    assert torch.equal(router.allowed, torch.cat([expected, torch.eye(3, dtype=torch.bool)], dim=1))
    for task in range(3):
        mix = router.mix(task)
        assert (mix[:, ~router.allowed[task]] == 0).all()
        torch.testing.assert_close(mix.sum(dim=1), torch.full((len(mix),), 3.0))


def test_the_answer_and_what_follows_are_not_seen(trained, questions):
    """Another answer changes no state: only what came before a question is read."""
    tokens = questions.tokens
    titles, codes = tokens.titles.copy(), tokens.codes.copy()
    titles[questions.positions + 1], codes[questions.positions + 1] = 1, 0
    other = replace(questions, tokens=replace(tokens, titles=titles, codes=codes))
    torch.testing.assert_close(questions.states(trained.model), other.states(trained.model), atol=0, rtol=0)


def test_surfaces_ask_only_what_was_met_in_their_way(trained, service):
    tokens = TokenSequences.of(service[0], trained.vocabulary)
    plays, trailers = (create_task(name, trained.model).view(tokens) for name in ("plays", "trailers"))
    for view, bit in ((plays, 1), (trailers, 2)):
        asked = np.flatnonzero(view.targets > 0)
        assert 0 < len(asked) < (tokens.targets > 0).sum()
        assert (tokens.actions[asked + 1] & bit).all()


def test_a_task_that_nothing_asks_for_is_refused(trained, service, config):
    histories, catalogue = service
    place = histories.schema.get_field_index("actions")
    flat = histories["actions"].combine_chunks()
    plays = pa.ListArray.from_arrays(flat.offsets, pc.multiply(flat.values, 0).cast(flat.values.type), type=flat.type)
    silent = histories.set_column(place, histories.schema.field(place), plays)
    with pytest.raises(ContractError, match="trailers"):
        train_tasks(trained, silent, catalogue, config, SHORT.model_copy(update={"names": ("trailers",)}), 0)


def test_states_are_those_of_the_encoder(trained, questions):
    """At a question the request is unknown, so the state is that of the nightly vector."""
    expected = member_vectors(trained.model, TokenSequences.of(questions.queries.histories, trained.vocabulary))
    for chosen, batch in questions.batches():
        with torch.no_grad():
            members = trained.model.eval().vectors(target_states(trained.model, batch))
        rows = np.flatnonzero(questions.has_target)[chosen]
        np.testing.assert_allclose(members.numpy(), expected[rows], atol=1e-5)


def test_no_answer_to_a_question_is_learned_from(trained, service, config):
    """What judges the rounds is held out of the lesson: its histories there end before the answer."""
    histories, catalogue = service
    lesson = TrainingData.of(histories, catalogue, config, 0, trained.vocabulary)
    held = hold_out_tokens(last_new_title(histories, catalogue["title_id"].combine_chunks()), config.training, 0)
    asked = EvalQueries.of(histories, trained.vocabulary, held, trained.model.length)
    learned = dict(zip(lesson.histories["member_id"].to_pylist(), lesson.tokens.lengths.tolist(), strict=True))
    before = asked.positions - asked.tokens.starts[:-1]
    assert [learned[member] for member in asked.queries.histories["member_id"].to_pylist()] == before.tolist()

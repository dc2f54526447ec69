from collections import Counter
from pathlib import Path

import pyarrow as pa
import pytest
import torch
from safetensors.torch import load_file

from embeddings.foundation import train
from embeddings.foundation.config import NetworkConfig, TrainingConfig, num_positions, num_steps
from embeddings.foundation.train_step import TrainStep
from embeddings.foundation.training_data import TrainingData
from stores.errors import ContractError


def test_it_learns_a_planted_pattern(trained):
    metrics = trained[0].metrics
    assert metrics["ndcg@10"] > 1.5 * metrics["baselines"]["popularity"]["ndcg@10"]
    assert metrics["ndcg@10"] > metrics["baselines"]["item_knn"]["ndcg@10"]


def test_one_seed_gives_identical_weights_and_another_does_not(trained, histories, catalogue, make, tmp_path):
    torch.rand(3)
    again = train(histories, catalogue, make.config(), 0, tmp_path)
    assert again.model_id == trained[0].model_id
    one, two = (load_file(Path(model.path) / "weights.safetensors") for model in (trained[0], again))
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert train(histories, catalogue, make.config(max_steps=5), 1, tmp_path).model_id != again.model_id


def test_training_leaves_the_callers_random_numbers_alone(histories, catalogue, make, tmp_path):
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    train(histories, catalogue, make.config(max_steps=2), 0, tmp_path)
    assert torch.equal(torch.rand(1), expected)


def test_progress_tells_loss_rate_and_time_left(histories, catalogue, make, tmp_path):
    told = []
    train(histories, catalogue, make.config(max_steps=6, num_validations=2), 0, tmp_path, told.append)
    assert [progress.step for progress in told] == [1, 2, 3, 4, 5, 6]
    assert all(progress.steps == 6 and progress.loss > 0 and progress.tokens_per_second > 0 for progress in told)
    assert told[-1].seconds_left == 0
    assert told[0].ndcg != told[0].ndcg
    assert 0 <= told[-1].ndcg <= 1


def test_it_stops_when_validation_no_longer_improves(histories, catalogue, make, tmp_path):
    config = make.config(max_steps=400, num_validations=100, patience=3, ema_decay=0.0)
    metrics = train(histories, catalogue, config, 0, tmp_path).metrics
    assert metrics["best_step"] <= metrics["steps"] < 400


def test_small_catalogues_are_scored_in_full(histories, catalogue, make, tmp_path):
    config = make.config(max_full_softmax_titles=100, max_steps=40)
    metrics = train(histories, catalogue, config, 0, tmp_path).metrics
    assert metrics["ndcg@10"] > metrics["baselines"]["popularity"]["ndcg@10"]


def test_a_share_of_the_members_is_held_out_and_no_part_of_the_lesson(histories, catalogue, make):
    before = histories["title_id"].combine_chunks().value_lengths().to_numpy()
    for settings, held in (({}, 60), ({"min_validation_members": 1}, 30), ({"max_validation_members": 7}, 7)):
        lesson = TrainingData.of(histories, catalogue, make.config(**settings), 0)
        assert (before - lesson.tokens.lengths).tolist().count(1) == len(lesson.queries) == held
        assert (before - lesson.tokens.lengths).tolist().count(0) == 60 - held


def test_held_out_plays_do_not_leak_into_the_catalogue(histories, catalogue, make):
    counts = Counter(histories["title_id"].combine_chunks().flatten().to_pylist())
    config = make.config(min_validation_members=1)
    place = catalogue.schema.get_field_index("plays")
    plays = pa.array([counts[title] for title in catalogue["title_id"].to_pylist()])
    lesson = TrainingData.of(histories, catalogue.set_column(place, "plays", plays), config, 0)
    learned = Counter(lesson.histories["title_id"].combine_chunks().flatten().to_pylist())
    known = lesson.known.select(["title_id", "plays"]).to_pylist()
    assert all(row["plays"] == learned[row["title_id"]] for row in known)


def test_some_titles_hide_their_id_in_every_step(histories, catalogue, make):
    config = make.config()
    lesson = TrainingData.of(histories, catalogue, config, 0)
    assert lesson.id_dropout((0.05, 0.2)) == 0.05
    learner = TrainStep(lesson.model(config), config.training, 1, id_dropout=1.0)
    rows = torch.arange(1, 25)
    _, outputs, unknown = learner._titles(rows)
    for vectors in (outputs, unknown):
        torch.testing.assert_close(vectors[:12], vectors[:1].expand(12, -1))
        assert not torch.allclose(vectors[0], vectors[12])


def test_a_title_without_its_id_learns_to_lie_where_its_id_puts_it_and_moves_nothing_else(histories, catalogue, make):
    config = make.config(cold_start_loss_weight=1.0)
    torch.manual_seed(0)
    model = TrainingData.of(histories, catalogue, config, 0).model(config)
    learner, rows = TrainStep(model, config.training, 1, id_dropout=0.0), torch.arange(1, 25)

    def apart():
        _, outputs, unknown = learner._titles(rows)
        return 1 - (unknown * outputs.detach()).sum(dim=1).mean()

    before = apart()
    before.backward()
    moved = {name for name, p in model.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    assert all(name.startswith(("tower.metadata.", "tower.trust.", "tower.ids.")) for name in moved)
    assert not model.tower.ids.weight.grad[1:].any()
    for _ in range(20):
        learner.optimiser.zero_grad()
        apart().backward()
        learner.optimiser.step()
    assert apart() < 0.7 * before


@pytest.mark.parametrize("sequences", [[], [[100]], [[100, 100, 100]]])
def test_nothing_to_learn_from_is_said(sequences, catalogue, make, tmp_path):
    with pytest.raises(ContractError):
        train(make.histories(sequences), catalogue, make.config(), 0, tmp_path)


def test_content_vectors_and_no_metadata_are_fine(histories, catalogue, make, tmp_path):
    vectors = pa.array([[float(i < 12), float(i >= 12)] for i in range(24)], pa.list_(pa.float32()))
    place = catalogue.schema.get_field_index("embedding")
    with_content = catalogue.set_column(place, catalogue.schema.field(place), vectors)
    config = make.config(max_steps=4)
    bare = config.model_copy(update={"network": config.network.model_copy(update={"metadata": False})})
    assert train(histories, with_content, config, 0, tmp_path).metrics["steps"] == 4
    assert train(histories, catalogue, bare, 0, tmp_path).metrics["steps"] == 4


def test_the_rules_follow_the_data():
    training = TrainingConfig(batch_tokens=100, epochs=10, min_steps=50, max_steps=500)
    assert [num_steps(training, tokens) for tokens in (0, 1000, 10_000)] == [50, 100, 500]
    network = NetworkConfig(max_auto_positions=200)
    lengths = [num_positions(network, torch.full((10,), n).numpy()) for n in (3, 30, 1000)]
    assert lengths == sorted(lengths)
    assert lengths[0] == 16
    assert lengths[-1] == 200
    assert num_positions(NetworkConfig(max_positions=64), torch.full((3,), 5).numpy()) == 64


def test_members_of_one_title_each_leave_nothing_to_judge_by_but_train(catalogue, make, tmp_path):
    model = train(make.histories([[100], [101], [102]]), catalogue, make.config(max_steps=3), 0, tmp_path)
    assert model.metrics["ndcg@10"] == 0.0

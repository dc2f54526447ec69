import pytest

from embeddings.foundation import FoundationEncoder, train
from stores.errors import ContractError

pytestmark = [
    pytest.mark.slow,
    # Ray's trainer loads Ray's data library, which sets what it itself calls old.
    pytest.mark.filterwarnings("ignore::DeprecationWarning:ray.data.context"),
]


def shared(make, workers, **training):
    return make.config(**({"max_steps": 12, "evaluations": 2} | training)).model_copy(update={"workers": workers})


def test_workers_train_one_model(ray_session, histories, catalogue, make, tmp_path):
    """That all have the same weights is checked by every training itself, before it writes them."""
    model = train(histories, catalogue, shared(make, 2), 0, tmp_path)
    assert model.metrics["steps"] == 12
    assert FoundationEncoder.load(model.path).encode_members(histories).shape == (len(histories), 8)
    assert not list(tmp_path.glob("unfinished-*"))


def test_an_error_in_a_worker_is_told_as_it_is(ray_session, make, catalogue, tmp_path):
    with pytest.raises(ContractError, match="nothing to learn"):
        train(make.histories([[100]]), catalogue, shared(make, 2), 0, tmp_path)

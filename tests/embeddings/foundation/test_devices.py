"""Every network computes where its weights are.

A device that no test machine has is played by torch's fake tensors: they have shapes and a device, no entries, and any
operation on tensors of two devices raises, as it would on a GPU.
"""

from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from embeddings.foundation.encode import last_states, title_features
from embeddings.foundation.encoder import FoundationEncoder
from embeddings.foundation.model import TitleFeatures, select_past
from embeddings.foundation.sequences import Batch, PastBatch
from embeddings.foundation.training_data import TrainingData

ELSEWHERE = "lazy"
NETWORKS = [
    {},
    {"time_bias": False},
    {"block_type": "hstu"},
    {"block_type": "hstu", "time_bias": False},
    {"latents": 2},
    {"block_type": "hstu", "latents": 2, "hierarchical": True},
    {"metadata": False, "content": False},
]


def there(part):
    """The same tensors on the device."""
    if isinstance(part, torch.Tensor):
        return torch.empty(part.shape, dtype=part.dtype, device=ELSEWHERE)
    if isinstance(part, Batch | PastBatch | TitleFeatures):
        parts = {field.name: getattr(part, field.name) for field in fields(part)}
        return type(part)(**{name: None if one is None else there(one) for name, one in parts.items()})
    for module in part.modules():
        for kept in (module._parameters, module._buffers):
            for name, tensor in kept.items():
                if tensor is not None:
                    moved = there(tensor)
                    kept[name] = torch.nn.Parameter(moved) if tensor.requires_grad else moved
    return part


@pytest.mark.parametrize("network", NETWORKS, ids=lambda network: ", ".join(map(str, network)) or "default")
@pytest.mark.parametrize("training", [False, True])
def test_every_network_makes_its_tensors_on_the_device_of_its_weights(histories, catalogue, make, network, training):
    config = make.config()
    config = config.model_copy(update={"network": config.network.model_copy(update=network)})
    lesson = TrainingData.of(histories, catalogue, config, 0)
    model, tokens = lesson.model(config).train(training), lesson.tokens
    lengths = np.minimum(tokens.lengths + 1, model.length)
    first = tokens.starts[1:] - lengths
    batch = replace(tokens.windows(first, lengths), past=None if model.is_windowed else select_past(tokens, first, 8))
    features, rows = (
        title_features(catalogue, lesson.vocabulary),
        torch.from_numpy(lesson.vocabulary.rows(catalogue[0])),
    )
    if training:  # there is no autocast for the device that is played
        model.transformer.eval()
    with FakeTensorMode(), torch.no_grad():
        model = there(model)
        inputs, known = model.known_titles()
        states = last_states(model, there(batch), inputs, there(torch.from_numpy(lengths - 1)))
        made = [inputs, known, states, model.vectors(states), model.titles(there(rows), there(features))]
        assert {str(one.device) for one in (*made, model.log_temperature)} == {ELSEWHERE}
        assert str(model.device) == ELSEWHERE


@pytest.mark.parametrize("network", [{"block_type": "hstu"}, {"latents": 2}, {}])
def test_an_encoder_is_moved_as_a_whole_and_the_trained_model_stays(histories, catalogue, make, monkeypatch, network):
    """What `tuned(…, device)` hands to the network and to the tower is on that device."""
    from embeddings.foundation import encoder as module
    from embeddings.foundation.checkpoint import Checkpoint
    from embeddings.foundation.model import FoundationModel

    config = make.config()
    config = config.model_copy(update={"network": config.network.model_copy(update=network)})
    lesson = TrainingData.of(histories, catalogue, config, 0)
    moved, prepared = [], []
    monkeypatch.setattr(FoundationModel, "to", lambda self, device: (moved.append(str(device)), self)[1])
    real = module.LastPositionForward

    class Recorded(real):
        def __init__(self, model, dtype=torch.float32, device=None):
            prepared.append((str(dtype), str(device)))

    monkeypatch.setattr(module, "LastPositionForward", Recorded)
    trained = Checkpoint(lesson.model(config).eval(), lesson.vocabulary, config)
    tuned = FoundationEncoder(trained, "m").with_precision("bf16", "meta")
    assert moved == ["meta"]
    assert tuned._model is not trained.model
    assert FoundationEncoder(trained, "m")._model is trained.model
    assert prepared[1:2] == ([("torch.bfloat16", "meta")] if network == {} else [])

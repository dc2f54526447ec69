"""A simulated service of three surfaces and a small model of it."""

from datetime import UTC, datetime

import pytest

from embeddings.foundation import checkpoint
from embeddings.foundation.config import FoundationConfig, NetworkConfig, TrainingConfig
from embeddings.foundation.trainer import train
from embeddings.histories.job import HistoriesConfig, read_histories
from stores.lake.contract import Lake
from stores.lake.simulation.simulate import SimulationConfig, simulate

CONFIG = FoundationConfig(
    network=NetworkConfig(dim=16, width=16, num_layers=1, max_auto_positions=32),
    training=TrainingConfig(min_steps=40, max_steps=40, batch_tokens=512, num_validations=2),
)


@pytest.fixture(scope="session")
def service(tmp_path_factory):
    """Histories and catalogue."""
    lake = str(tmp_path_factory.mktemp("tasks") / "lake")
    simulate(lake, SimulationConfig(members=150, titles=80, days=30, seed=5))
    return read_histories(Lake.open(lake), datetime.now(UTC), HistoriesConfig())


@pytest.fixture(scope="session")
def config():
    return CONFIG


@pytest.fixture(scope="session")
def trained(service, tmp_path_factory):
    """A model of it."""
    return checkpoint.load_checkpoint(train(*service, CONFIG, 0, tmp_path_factory.mktemp("models")).path)[0]

"""The short form of `tests/chaos/serving.py`: a service under load while the live release is moved in every way."""

from pathlib import Path

import pytest

from tests.chaos.serving import chaos


@pytest.mark.slow
def test_a_service_under_load_follows_every_move_without_an_error_a_mixture_or_growth(tmp_path: Path) -> None:
    found = chaos(str(tmp_path / "ws"), cycles=2, clients=2)
    assert found["wrong"] == {}
    assert found["asked"] > 0
    assert found["served"] == 3, "all releases were served"

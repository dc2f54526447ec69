import pytest

import retrieval


def test_every_public_name_can_be_had():
    for name in retrieval.__all__:
        assert getattr(retrieval, name) is not None
    with pytest.raises(AttributeError, match="nothing_of_the_kind"):
        retrieval.nothing_of_the_kind  # noqa: B018

"""The probe reads what any Feast user reads."""

import numpy as np
import pytest

from stores.feast.online_store import read_online_rows
from stores.publishing import publish


@pytest.mark.parametrize("workspace", ["local_nights", "text_nights"])
def test_the_probe_reads_vectors_and_releases_in_the_order_asked(request, workspace, config, look):
    nights = request.getfixturevalue(workspace)
    first = nights.seal(dict.fromkeys(range(1, 9), 1), {1: 1, 2: 1})
    second = nights.seal({**dict.fromkeys(range(1, 9), 1), 3: 2}, {1: 1, 2: 1})
    for release in (first, second):
        publish.publish(nights.workspace, release, config)
    ids = [nights.ids(i) for i in (5, 3, 77)]
    found = read_online_rows(config, second, "members", ids)
    published = look.published(second, "members")
    assert [row[0].tobytes() for row in found[:2]] == [published[i].tobytes() for i in ids[:2]]
    assert [row[1] for row in found] == [first.release_id, second.release_id, None]
    assert found[2][0] is None
    assert read_online_rows(config, second, "titles", [nights.ids(2)])[0][0].dtype == np.float32

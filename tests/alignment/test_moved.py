import numpy as np
import pyarrow as pa

from alignment.stage_report import farthest_movers


def test_the_farthest_come_first_with_whom_they_went_to() -> None:
    reference = np.eye(5) + 0.01
    aligned = reference.copy()
    aligned[1] = 7 * reference[3] + 0.1 * reference[4]
    titles = pa.table({"title_id": [10, 11, 12, 13, 14], "name": ["a", "b", "c", None, "e"]})
    news = farthest_movers(titles, aligned, reference, np.arange(5) == 1, neighbours=2)
    first = news[0]
    assert (first["title_id"], first["name"], first["beyond_noise"]) == (11, "b", True)
    assert first["toward"] == [13, "e"]
    assert 1.3 < first["distance"] < 1.5
    assert [row["distance"] for row in news[1:]] == [0, 0, 0, 0]
    assert "b" not in first["from"]


def test_a_zero_row_went_nowhere() -> None:
    titles = pa.table({"title_id": [1, 2], "name": ["a", "b"]})
    news = farthest_movers(titles, np.array([[0.0, 0.0], [1.0, 0.0]]), np.eye(2), np.zeros(2, bool))
    assert [row["title_id"] for row in news] == [2, 1]

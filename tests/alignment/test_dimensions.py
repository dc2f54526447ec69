import json

import numpy as np

from alignment import dimension_report


def test_energies_gaps_correlations_and_blocks() -> None:
    rng = np.random.default_rng(0)
    y = np.linalg.qr(rng.normal(size=(4000, 4)))[0] * [3.0, 2.0, 1.99, 1.0]
    x = y.copy()
    x[:, 3] = rng.normal(size=4000)
    report = dimension_report(x, y)
    assert [d.index for d in report] == [0, 1, 2, 3]
    assert [d.block for d in report] == [0, 1, 1, 2]
    np.testing.assert_allclose(sum(d.energy for d in report), 1)
    np.testing.assert_allclose([d.correlation for d in report[:3]], 1)
    assert abs(report[3].correlation) < 0.1
    np.testing.assert_allclose(report[0].gap, 5 / 9, rtol=1e-3)
    assert report[3].gap == 1


def test_without_a_reference_there_is_no_correlation() -> None:
    report = dimension_report(np.eye(3, dtype=np.float32))
    assert json.loads(json.dumps(report[0].as_dict()))["correlation"] is None


def test_an_empty_dimension_has_no_energy() -> None:
    rows = np.array([[1.0, 0.0, 0.0], [2.0, 0.0, 0.0]])
    report = dimension_report(rows, rows)
    assert [d.energy for d in report] == [1, 0, 0]
    assert [d.block for d in report] == [0, 1, 1]

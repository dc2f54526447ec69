"""The example of a downstream ranker: what it tells of aligned and of unaligned nights."""

import pytest

pytestmark = pytest.mark.usefixtures("retrained_every_night")


def test_consumers_of_the_first_night_go_on_working_only_if_aligned(small_movielens, tmp_path):
    import downstream_ranker

    found = downstream_ranker.run(small_movielens, 2, str(tmp_path))
    summary = found["summary"]
    assert [line["night"] for line in found["nights"]] == [1, 2]
    assert summary["kept off"][0] < 0.5 * summary["kept canonical"][0]
    assert summary["kept canonical"][1] <= 1 <= summary["kept canonical"][2]
    for ranker in ("pairs", "heads"):
        assert summary[ranker]["aligned ÷ refitted"] > 0.97
        assert abs(summary[ranker]["unaligned"] - 0.5) < 0.5 * (summary[ranker]["aligned"] - 0.5)
    assert all(0 <= line["gauge"] < 0.01 for line in found["nights"])
    pytest.importorskip("matplotlib", reason="the picture needs the extra [bench]")
    downstream_ranker.picture(found, str(tmp_path / "rankers.svg"))
    assert "<svg" in (tmp_path / "rankers.svg").read_text()


def test_a_slope_of_a_straight_line_is_its_own():
    from downstream_ranker import slope

    assert slope([1.0, 3.0, 5.0, 7.0]) == pytest.approx([2.0, 0.0])

"""The examples of narrower spaces and of mixed releases."""

import pytest

pytestmark = pytest.mark.usefixtures("retrained_every_night")


def test_each_width_is_set_beside_the_full_one(small_movielens, tmp_path, monkeypatch):
    import published_width
    from ten_nights import nights

    monkeypatch.setattr(published_width, "WIDTHS", (8, 4, 1))
    lines = published_width.compare(list(nights(small_movielens, 1, str(tmp_path))))
    assert [line["width"] for line in lines] == [8, 4, 1]
    assert lines[0]["kept"] == 1
    energies = [line["energy kept"] for line in lines]
    assert energies == sorted(energies, reverse=True)
    assert energies[0] == pytest.approx(1)
    assert lines[2]["kept"] < lines[1]["kept"]


def test_mixed_releases_need_alignment(small_movielens, tmp_path):
    import mixed_release
    from ten_nights import nights

    first, second = nights(small_movielens, 1, str(tmp_path))
    native = [(night.members, night.titles) for night in (first, second)]
    kept = {row["alignment"]: row["kept"] for row in mixed_release.measure(first.questions, native)}
    assert kept["canonical"] > 0.9
    assert kept["off"] < 0.5

"""Work done ahead: results in order, no more under way than there are threads and one, errors where they belong."""

from threading import Barrier

import pytest

from stores.runtime import map_ordered


def test_results_come_in_the_order_of_the_items():
    together = Barrier(2, timeout=30)

    def work(item):
        together.wait()  # two at once, or nobody goes on
        return item * item

    assert list(map_ordered(work, range(8), 2)) == [item * item for item in range(8)]


def test_items_are_taken_only_as_results_are_used():
    taken = []

    def items():
        for item in range(20):
            taken.append(item)
            yield item

    results = map_ordered(str, items(), 3)
    assert next(results) == "0"
    assert taken == [0, 1, 2, 3]
    assert list(results) == [str(item) for item in range(1, 20)]


def test_an_error_comes_in_the_place_of_its_result():
    results = map_ordered(lambda item: 1 / item, [2, 1, 0, 1], 2)
    assert [next(results), next(results)] == [0.5, 1.0]
    with pytest.raises(ZeroDivisionError):
        next(results)

import pytest

from shop import discount, total


def test_total_without_discount():
    assert total([1.0, 2.0]) == 3.0


def test_member_is_given_five_percent():
    assert discount("ada", 1, True, "") == 5


@pytest.mark.requirement("REQ-1")
def test_large_orders_are_given_a_discount():
    assert discount("ada", 11, False, "") == 5

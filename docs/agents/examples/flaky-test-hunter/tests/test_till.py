import till


def test_till_is_empty_at_first():
    assert till.inside() == 0  # unless another test was before it


def test_money_is_put_in():
    till.put(2.5)
    assert till.inside() >= 2.5


def test_queue_is_short():
    assert till.queue() < 7  # 7 times in 10


def test_queue_is_no_negative_number():
    assert till.queue() >= 0

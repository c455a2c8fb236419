import sqlite3

import pytest

from shop import orders


@pytest.fixture
def database():
    connection = sqlite3.connect(":memory:")
    connection.execute("CREATE TABLE orders (id INTEGER, customer TEXT, total REAL)")
    connection.execute("INSERT INTO orders VALUES (1, 'ada', 9.5)")
    yield connection
    connection.close()


def test_orders_are_counted(database):
    assert orders.count(database) == 1

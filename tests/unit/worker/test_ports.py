from __future__ import annotations

import socket
from collections.abc import Generator

import pytest

from qefleet.errors import SettingsError
from worker.services.ports import HOST, choose_port, is_free


@pytest.fixture
def busy_port() -> Generator[int]:
    with socket.socket() as server:
        server.bind((HOST, 0))
        server.listen()
        yield server.getsockname()[1]


def test_busy_default_is_replaced_by_a_free_port(busy_port: int) -> None:
    """Nobody asked for the default, so another one is as good."""
    chosen = choose_port(named=None, variable="QE_X", default=busy_port, taken=set())

    assert chosen != busy_port
    assert is_free(chosen)


def test_busy_port_that_was_named_is_an_error(busy_port: int) -> None:
    """Who names a port wants that one; the message names variable, port and holder."""
    with pytest.raises(SettingsError, match=rf"^QE_X: port {busy_port} is in use.*choose another"):
        choose_port(named=busy_port, variable="QE_X", default=1, taken=set())


def test_port_is_given_out_once() -> None:
    """Two services never get the same port, even before either listens."""
    taken: set[int] = set()
    first = choose_port(named=None, variable="QE_X", default=0, taken=taken)

    second = choose_port(named=None, variable="QE_Y", default=first, taken=taken)

    assert first != second
    assert taken == {first, second}

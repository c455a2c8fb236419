"""The one error of this side."""

from __future__ import annotations


class Refused(Exception):
    """The order can't be carried out; the worker gets the message."""

"""A small shop."""

from shop.prices import discount, total

__all__ = ["discount", "total"]

"""Tests that don't always give the same: found, explained, mended."""

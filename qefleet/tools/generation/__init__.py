"""Tests that are proposed for what nothing covers, and the six filters that they have to pass."""

"""Vorn: paired evaluation of KV-cache eviction policies."""

__version__ = "0.1.0"

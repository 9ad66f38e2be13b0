"""Eviction of recurrent-state snapshots across requests: the second domain. docs/snapshots.md describes it."""

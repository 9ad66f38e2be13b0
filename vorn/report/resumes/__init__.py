"""Resumes from snapshots in a report: the matrix of policies and workloads, in words, tables and figures."""

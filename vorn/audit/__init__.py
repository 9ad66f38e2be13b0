"""Published results and ledgers, recomputed from their per-fixture observations. `python -m vorn.audit PATH...`."""

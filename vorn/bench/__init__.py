"""What a panel, each policy and each contract cost, in units of one plain prefill: `python -m vorn.bench`."""

"""A training run: its configuration, folder, checkpoint and loop, and the policy it trains."""

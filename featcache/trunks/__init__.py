"""Frozen networks: what identifies them, where their weights come from, and their forward pass."""

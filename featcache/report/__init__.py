"""An Evaluation -> terminal table, picture, CSV, JSON."""

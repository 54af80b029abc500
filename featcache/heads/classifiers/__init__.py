"""Any other classifier on the same embeddings: k-NN and ridge are ours, the rest is scikit-learn's."""

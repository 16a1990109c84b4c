"""Using a checkpoint: embeddings, similarities and predictions."""

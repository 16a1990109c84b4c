"""From bytes to batches: `Table` -> `Columns` -> `Splits` -> `Batch`. Nothing here knows a model."""

"""The shared encoder, the pooling, the heads, and the model that joins them.

Shapes: B texts, T tokens, D embedding size, C classes.
"""

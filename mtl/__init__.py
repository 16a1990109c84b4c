"""One shared sentence encoder, several task heads, fine-tuned from a CSV."""

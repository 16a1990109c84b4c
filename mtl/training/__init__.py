"""The training loop and its parts. No disk, no process, no print: whoever iterates decides what to do with events.

Shapes: B texts, C classes.
"""

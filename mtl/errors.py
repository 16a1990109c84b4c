"""The errors a person can cause, each with one clear sentence: what, where, what to do.

    UserError
    ├── DataError         a file or a cell
    ├── ConfigError       a value of the configuration
    ├── CheckpointError   an encoder, a run or its weights
    └── LimitError        more than this installation accepts

Whoever talks to a person (the page, the command line) shows the message and no traceback; every other
exception is a fault of ours and is logged whole.
"""


class UserError(Exception):
    """Something the person at the page or the command line can put right."""


class DataError(UserError):
    """A file, a row or a cell that cannot be used as it is."""


class ConfigError(UserError):
    """A configuration value that is missing, misspelt or out of range."""


class CheckpointError(UserError):
    """An encoder, a run or a checkpoint that cannot be found or trusted."""


class LimitError(UserError):
    """More rows, bytes or labels than this installation accepts."""

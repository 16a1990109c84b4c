"""The sections of the Train tab: the data, the plan, the live run, the result."""

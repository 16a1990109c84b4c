"""The parts of the Runs tab: the list's cards, and the run that is open."""

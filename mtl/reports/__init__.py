"""Figures and files made from a run's events: pure functions, the same for live and finished runs."""

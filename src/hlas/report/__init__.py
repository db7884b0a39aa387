"""Hypotheses -> metrics, intervals, tests, and the report that shows them."""

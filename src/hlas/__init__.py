"""hlas: from a Common Voice release to a measured CTC recogniser."""

__version__ = "0.1.0"

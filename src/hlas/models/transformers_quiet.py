"""transformers without its progress bars and advice: hlas says itself what it loads, and from where."""

from functools import cache


@cache  # what a user switches on afterwards stays on
def quieten() -> None:
    """Before the first model is loaded, saved or converted."""
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()

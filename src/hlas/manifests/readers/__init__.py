"""One module a form of corpus: each opens it as a `Corpus` (see corpus.py)."""

"""Corpora that espeak-ng speaks, of a grammar's sentences or a given text, written as Common Voice releases."""

"""The embedded demo corpus: a grammar's sentences, spoken by espeak-ng, written as a Common Voice release."""

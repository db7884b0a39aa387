"""The commands: thin functions, a file for each subject; cli.py puts them together.

Heavy libraries are imported inside the functions.
"""

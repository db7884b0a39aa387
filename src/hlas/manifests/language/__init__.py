"""Languages: their YAML, numbers, look-alike letters, the drafts and checks of the command `language`."""

"""What a corpus is made of: numbers and plots of manifests, for the command `stats`."""

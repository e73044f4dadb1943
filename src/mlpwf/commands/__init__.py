"""One module per verb: read files, call science, write files."""

"""The observables, each in a file of its own that holds an `OBSERVABLE`."""

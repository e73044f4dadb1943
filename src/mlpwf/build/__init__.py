"""The build stage: start, test and bulk frames."""

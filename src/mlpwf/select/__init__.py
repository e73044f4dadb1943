"""The select stage: which frames are labelled next."""

"""The campaign page."""

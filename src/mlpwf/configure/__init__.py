"""The resolved config of a campaign."""

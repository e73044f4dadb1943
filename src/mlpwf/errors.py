"""Errors a user can act on: value found, value expected, remedy, in one line."""


class MlpwfError(Exception):
    """Base of every error that ends a command with one line and exit status 2."""


class ConfigError(MlpwfError):
    """A configuration, command or file named by the user is missing or impossible."""


class EngineError(MlpwfError):
    """An external program could not be started or failed as a whole."""


class GoneError(EngineError):
    """A process that is asked again and again has ended, or cannot answer: that says nothing of what was asked."""


class DataError(MlpwfError):
    """A data file is missing, truncated or inconsistent."""

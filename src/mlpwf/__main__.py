"""`python -m mlpwf`."""

from mlpwf.cli import main

main()

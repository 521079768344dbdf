"""`python -m ebmctl`."""

from ebmctl.cli import main

main()

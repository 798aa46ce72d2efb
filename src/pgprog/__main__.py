"""`python -m pgprog` is the command line."""

from pgprog.cli import main

main()

"""`python -m muybridge`: the command line, where its script is not on the path."""

from muybridge.cli.main import main

main()

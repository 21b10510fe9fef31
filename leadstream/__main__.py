"""`python -m leadstream` is `leadstream`."""

from leadstream.cli import main

main()

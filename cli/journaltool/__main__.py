"""Entry point of ``python -m journaltool``."""

from journaltool import main

main()

"""`python -m wuerstchen_nodes.headless.cli` is the command `wuerstchen`."""

import sys

from .main import main

if __name__ == "__main__":
    sys.exit(main())

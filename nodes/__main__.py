"""`python -m nodes`, in the folder of this pack, is the command `wuerstchen`, for installations without pip."""

import sys

from .headless.cli.main import main

if __name__ == "__main__":
    sys.exit(main())

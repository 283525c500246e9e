"""`python -m forwardgrad` is `forwardgrad`."""

import sys

from forwardgrad.cli import main

if __name__ == "__main__":
    sys.exit(main())

"""`python -m LASegColearnLib` is the command `lasegcolearn`."""

import sys

from LASegColearnLib.command_line import main

if __name__ == "__main__":
    sys.exit(main())

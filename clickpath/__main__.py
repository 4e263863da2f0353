"""`python -m clickpath` is the command `clickpath`."""

import sys

from clickpath.cli import main

sys.exit(main())

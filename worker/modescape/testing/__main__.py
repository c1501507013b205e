"""`python -m modescape.testing own.py`, which is what `modescape plugins check own.py` starts."""

import sys

from modescape.testing.check import main

raise SystemExit(main(sys.argv[1:]))

"""`python -m ncc`."""

import sys

from ncc.cli import main

sys.exit(main())

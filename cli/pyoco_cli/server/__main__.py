"""`python -m pyoco_cli.server`: how `up --detach` starts the program that stays."""

import sys

from pyoco_cli.server import main

sys.exit(main())

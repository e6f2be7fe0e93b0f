"""`python -m pyoco_cli.server`: how `up --detach` starts the program that stays."""

from pyoco_cli.server import main

main()

"""``python -m pyoco_server.worker.runner``: what a slot starts; of no use by hand."""

from pyoco_server.worker.runner.child import main

main()

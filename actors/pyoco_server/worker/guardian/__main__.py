"""``python -m pyoco_server.worker.guardian``: what a worker starts; of no use by hand."""

from pyoco_server.worker.guardian.program import main

main()

"""Run Pyoco workflows on many machines: the backend, everything that works without a web server."""

"""The flow of ``pyoco-server demo``: a small weather service, worth watching for a few seconds."""

"""What is on the wire: pure data and pure rules."""

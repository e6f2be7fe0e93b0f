"""What is on the wire: pure data, and the pure rules of it. No input or output happens here."""

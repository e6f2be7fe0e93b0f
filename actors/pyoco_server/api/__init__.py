"""What the HTTP API takes and gives: queries, bodies and answers, of which `openapi.json` is made."""

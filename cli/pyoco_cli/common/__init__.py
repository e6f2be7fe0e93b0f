"""What all commands share: how they report errors, print, and speak to the user."""

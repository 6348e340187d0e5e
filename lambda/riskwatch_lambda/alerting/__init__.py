"""Messages: when one is sent, what it says, where it goes."""

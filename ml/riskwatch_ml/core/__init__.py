"""Things that every room needs: clock, AWS clients, settings, accounts and regions."""

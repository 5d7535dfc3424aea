"""Words from records: nothing is computed here."""

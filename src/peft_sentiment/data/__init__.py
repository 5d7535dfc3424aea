"""Reviews: from a source to checked, split batches of token ids."""

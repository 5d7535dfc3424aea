"""The encoder, its adapter, and the precision they compute in."""

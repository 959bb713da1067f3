"""The protocol's page, its examples, and npipe: they keep together."""

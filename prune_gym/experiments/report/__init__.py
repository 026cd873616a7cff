"""Run folders as one HTML page that needs no network."""

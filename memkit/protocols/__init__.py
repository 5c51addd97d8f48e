"""The papers' evaluations, one file each."""

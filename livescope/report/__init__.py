"""What a run found, as one page that opens anywhere."""

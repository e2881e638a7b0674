"""Frames, calls and losses in OME-Zarr: writer, journal, labels, table, reader."""

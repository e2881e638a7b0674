"""Frames, calls and labels on disk: what was seen, what was said of it, and what was lost.

Owns the record's format, its writer and its reader. Knows nothing of cameras, networks or windows. Import `Recorder`
from `livescope.record.writer` and `open_record` from `livescope.record.reader`: they pull in tensorstore, zarr, arrow.
"""

"""The live window: newest frame, calls drawn over it, counts, curves and controls. Qt lives here only.

`window.show` opens it, `picture.save_picture` writes a frame with its calls without Qt. Nothing here is ever waited for
by acquisition: the window reads newest-only mailboxes and asks the session, which does the work on its own thread.
"""

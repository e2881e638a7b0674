"""Where frames come from: a Micro-Manager core, a simulated camera or files, all through one live loop.

Owns the core's life, the loop, the account of losses and the health of a stream. Knows nothing of networks, records or
windows.
"""

from __future__ import annotations

"""From a Micro-Manager core, or files, to frames: opening cores, the live loop, replay, health."""

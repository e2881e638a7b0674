"""From calls in single frames to cells in time: who is who, and when each died."""

"""Models out and in: bioimage.io packages, and networks made elsewhere."""

"""From a raw frame to a table of cells: model bundles, the frame graph, inference backends, decoding."""

"""The live window: newest frame, calls drawn over it, counts, curves and controls. Qt lives here only."""

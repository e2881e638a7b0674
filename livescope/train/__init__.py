"""Training, calibration and validation of networks: the only room that imports torch; nothing live imports it."""

"""Training and scoring of networks. torch lives here only; nothing that runs at the microscope imports it."""

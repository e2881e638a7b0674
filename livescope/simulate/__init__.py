"""A microscope that is not there: cells with known truth, optics, a Micro-Manager camera in Python, a scripted core."""

"""From calls to numbers a biologist reports: viability with its interval."""

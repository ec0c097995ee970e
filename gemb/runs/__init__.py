"""Run folders: records, locks, comparison, sweeps."""

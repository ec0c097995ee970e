"""Placement of arrays: the mesh, rules from logical axes to mesh axes, placement of batches."""

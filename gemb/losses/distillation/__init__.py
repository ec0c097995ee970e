"""Distillation losses: a student learns from a teacher's vectors, scores, layers or geometry.

No gradient flows to a teacher. Import the losses from gemb.losses.
"""

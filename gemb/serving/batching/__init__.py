"""Texts of many requests encoded together: lanes, the thread that encodes, warmed models."""

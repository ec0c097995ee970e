"""One small main a verb: flags, one call into the library, a few printed lines."""

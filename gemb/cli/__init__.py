"""One small file per verb: flags, one call into the library, a few printed lines."""

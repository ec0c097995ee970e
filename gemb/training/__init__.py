"""Training: one loop for every model, processor, data, objective and evaluator."""

"""The one training loop: variation enters through model, data, loss and optimizer."""

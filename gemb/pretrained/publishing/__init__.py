"""What a saved folder is published with: its model card, and the way to the Hugging Face hub."""

"""Text prompts, and the encoders that turn them into text embeddings."""

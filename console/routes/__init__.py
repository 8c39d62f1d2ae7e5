"""The REST API: one file per noun, thin: what is done lies in ``console`` beside it."""

"""The systems that are compared, one a file. All read with the same base model."""

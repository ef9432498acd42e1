"""What is done with a winner: merging it into its base model, and uploading it."""

"""What every backend of the store must do, in terms of the public API alone."""

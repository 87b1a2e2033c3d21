"""Each module of maintenance by itself, on small stores."""

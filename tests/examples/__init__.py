"""The programs in examples/, each under load: what its page claims holds for several processes."""

"""Everything at once, from every worker of the test run."""

"""The engine in a database: what is its own; the contract suite holds it to the rest."""

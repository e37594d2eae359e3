"""What bounds training on many devices and hosts: constants measured here, formulas, and where they lead."""

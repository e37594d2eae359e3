"""What a derivative should be: the function without its rules, evaluated in float64, and differences of it."""

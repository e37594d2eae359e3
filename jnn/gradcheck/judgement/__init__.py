"""What is said of a derivative: stages that compare it with what it should be, and return findings."""

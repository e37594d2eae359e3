"""The contract for inputs: whatever comes, a function does what its user expects, or says what it expected instead."""

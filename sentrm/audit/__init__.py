"""Score a preference dataset, open the result, and ask what it says about its labels."""

"""Files that other programs run, and the comparison of before and after."""

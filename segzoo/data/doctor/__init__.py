"""The doctor: everything that is wrong with a data set, and what is in it, in one run."""

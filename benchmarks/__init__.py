"""What the README's numbers come from: `make bench`.

Every figure is a ratio of two things measured in the same run, in turn, by medians: the machine may be noisy or slow.
"""

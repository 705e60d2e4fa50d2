"""``make bench``: the figures of DESIGN section 10, each beside what it is compared with, out of one run."""

package main

import "math"

// descriptors is how many files this process may have open: as many as it likes.
func descriptors() int { return math.MaxInt32 }

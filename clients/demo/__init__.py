"""One discharge, from the bill to the verified log, by real processes on this computer."""

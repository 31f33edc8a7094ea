"""One queue for long work - training, curation, long videos - that outlives whoever started it. A job is a command of
muybridge in a folder of its own; what is true of it is read from that folder and from the system's locks, so that a
kill or a crash leaves nothing that lies."""

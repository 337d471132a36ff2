"""Short programs that use the library as a reader would; each is meant to be copied."""

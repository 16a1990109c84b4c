"""What a run leaves on disk, and the process that makes it. The files are the protocol: everyone reads the same."""

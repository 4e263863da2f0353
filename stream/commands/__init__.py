"""The commands of the stream program, a file each: parse, call, print, return the exit code."""

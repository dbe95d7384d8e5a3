"""The command line ``palm``; nothing here is imported by the library."""

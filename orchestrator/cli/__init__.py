"""The command line: a command loads, calls one function, prints, exits."""

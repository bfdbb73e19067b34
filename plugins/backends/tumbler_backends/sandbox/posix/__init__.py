"""What sandbox backends on POSIX systems share; imports no backend."""

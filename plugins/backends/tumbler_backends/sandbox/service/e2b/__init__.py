"""The E2B-compatible front end: the E2B SDK drives any of Tumbler's sandbox backends."""

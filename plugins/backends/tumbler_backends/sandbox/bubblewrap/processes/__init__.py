"""Starting programs inside, talking with them and ending them."""

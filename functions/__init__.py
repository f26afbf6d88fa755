"""The Lambda functions: one file each, nothing but its entry; a file's path is its handler."""

"""What the operating system gives: threads, and waiting for each other without locks that could be held for ever."""

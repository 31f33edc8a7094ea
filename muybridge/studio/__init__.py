"""`muybridge studio`: a page in the browser. It is a face over the command line: a form becomes a command's arguments,
the command itself runs, and what it says is shown."""

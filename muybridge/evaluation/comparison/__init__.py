"""The same captions and seeds drawn by several models: what each costs, how its videos move, and what they show."""

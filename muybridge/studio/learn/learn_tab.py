def add(page): pass

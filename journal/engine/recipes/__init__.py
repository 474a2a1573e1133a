"""Recipes: sandboxes for Python and JavaScript, made of a warm interpreter and a pool of clones."""

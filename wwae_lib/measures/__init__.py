"""How good is a trained method, from what one makes with it and from its codes?"""

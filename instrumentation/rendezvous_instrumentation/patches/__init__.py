"""One module per library: which functions are wrapped, and what classifies, carries and positions.

``install.PATCHES`` says which of them is applied when which module of the library is imported.
"""

"""Questions about tasks: the language in which they are asked, the search, and what the answers mean. Does no I/O
itself.

`language.py` reads a filter. `search.py` finds what matches in the narrowest indexes of the store's port
(`sources.py`), and says what it searched and what the answer may lack. `story.py` and `tree.py` explain one task.
"""

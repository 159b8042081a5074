"""The contestants of a benchmark: one file per engine, each with an ``ENGINE``.

The processes of peers import this folder as a package of its own, without nybble. So its files import each other
relatively, import peers' packages in functions, and nothing of nybble outside the functions that make models.
"""

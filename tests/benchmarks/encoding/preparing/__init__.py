"""What peers need made of a model directory before they can load it, once, in an environment that has their packages.

`python -m encoding.preparing STEP DIRECTORY` runs one step: a module here, whose `prepare` writes into the directory.
"""

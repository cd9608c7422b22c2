"""Lectures on convolutional networks that run: the helpers that the lessons share.

Import modules, then write ``data.digits()``: the prefix tells the reader where to look.
"""

__version__ = "0.1.0"

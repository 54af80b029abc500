"""Keeping a cache well: what is wrong in it, mending it, and tidying it."""

"""One lark grammar a language."""

"""The library for notebooks, which needs no params.yaml; `rsa/__init__.py` lists the names that `import rsa` offers."""

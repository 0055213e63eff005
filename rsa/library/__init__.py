"""What `import rsa` offers in a notebook, without params.yaml; `rsa/__init__.py` lists the names."""

"""The typed mirror of params.yaml: every key, its type and its range. There are no defaults here: recipes/defaults.yaml has them.

A section's class is in the file of its name here, a dataset source's in rsa.data.sources, a method's in its file in
rsa.methods. A stage reads the sections that its signature names (`sections`), and imports only their classes; `load`
validates a whole document.
"""

"""Bazel 4 has these rules built in; from version 9 on they are in rules_python alone."""

py_binary = native.py_binary
py_library = native.py_library
py_test = native.py_test

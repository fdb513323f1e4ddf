"""Plain-Python references that decide what the native engine must do."""

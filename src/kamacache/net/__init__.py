"""How nodes reach each other: addresses, messages, the native lane."""

"""Cases: what a person must see, one open case a kind and subject."""

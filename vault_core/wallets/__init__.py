"""Partners' prepaid wallets: what a transaction costs, top-ups, alerts."""

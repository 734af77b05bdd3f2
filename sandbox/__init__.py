"""Stand-ins for M-Pesa, Mifos X and the SMS gateway over HTTP, each with a book of what really happened."""

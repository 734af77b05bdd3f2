"""Mifos X hosts: the part of the Apache Fineract API the product uses, held to captures of a real server."""

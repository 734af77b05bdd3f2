"""What is told to clients and partners by SMS, once each (DESIGN.md section 7)."""

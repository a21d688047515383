"""What operators' own code may import of the server; everything else may change with every release."""

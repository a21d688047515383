"""Access by a provider that the operator brings (configuration-and-security 3.3, 4)."""

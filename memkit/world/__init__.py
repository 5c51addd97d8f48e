"""The miniature world: small models whose knowledge is known by construction."""
